// A button with data-copy="text" puts that text on the clipboard and says so for two seconds.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    // No clipboard without HTTPS: select it in a field and copy that.
    const field = document.createElement("textarea");
    field.value = button.dataset.copy;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const said = button.querySelector("[data-copied]");
  button.classList.add("is-copied");
  if (said) said.textContent = "Copied";
  setTimeout(() => {
    button.classList.remove("is-copied");
    if (said) said.textContent = "";
  }, 2000);
});
