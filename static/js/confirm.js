// A form with data-confirm="question" asks before it is sent, in the dialog that base.html holds.
// data-confirm-title, data-confirm-label and data-confirm-keep name the dialog and its buttons.

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.confirmed) return;
  const dialog = document.getElementById("confirm-dialog");
  event.preventDefault();
  event.stopImmediatePropagation();
  dialog.querySelector("[data-title]").textContent = form.dataset.confirmTitle || "Are you sure?";
  dialog.querySelector("[data-question]").textContent = form.dataset.confirm;
  dialog.querySelector("[value=yes]").textContent = form.dataset.confirmLabel || "Continue";
  dialog.querySelector("[value=no]").textContent = form.dataset.confirmKeep || "Keep it";
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    form.dataset.confirmed = "yes";
    form.requestSubmit(event.submitter);
    delete form.dataset.confirmed;
  };
  dialog.showModal();
}, true);
