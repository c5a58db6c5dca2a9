// The upload form: files can be dropped on it, are listed before they are sent, and show how far they are.
// Without this file the form still works as any form with a file field does.

function size(bytes) {
  for (const unit of ["B", "KB", "MB", "GB", "TB"]) {
    const text = unit === "B" || bytes >= 99.95 ? bytes.toFixed(0) : bytes.toFixed(1);
    if (Number(text) < 1000 || unit === "TB") return `${text} ${unit}`;
    bytes /= 1000;
  }
}

function left(seconds) {
  if (!Number.isFinite(seconds)) return "";
  return seconds < 90 ? `, ${Math.ceil(seconds)} s left` : `, ${Math.ceil(seconds / 60)} min left`;
}

function attach(form) {
  const input = form.querySelector("input[type=file]");
  const zone = form.querySelector("[data-drop]");
  const list = form.querySelector("[data-files]");
  const limit = Number(input.dataset.limit) || Infinity;
  form.querySelector("[data-drop-hint]").hidden = false;

  function show() {
    list.replaceChildren(...[...input.files].map((file) => {
      const item = document.createElement("li");
      item.textContent = `${file.name} · ${size(file.size)}`;
      return item;
    }));
    const total = [...input.files].reduce((sum, file) => sum + file.size, 0);
    input.setCustomValidity(total > limit ? `Together the files are over the limit of ${size(limit)}.` : "");
    if (total > limit) input.reportValidity();
  }

  input.addEventListener("change", show);
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("is-over"); });
  }
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("is-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    show();
  });

  form.addEventListener("submit", (event) => {
    if (!input.files.length || !input.checkValidity()) return;
    event.preventDefault();
    send(form);
  });
}

function send(form) {
  const sending = form.querySelector("[data-sending]");
  const bar = form.querySelector("[data-sent]");
  const text = form.querySelector("[data-sent-text]");
  const button = form.querySelector("[data-send]");
  const request = new XMLHttpRequest();
  const started = performance.now();
  sending.hidden = false;
  button.disabled = true;
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    const rate = loaded / ((performance.now() - started) / 1000);
    bar.max = total;
    bar.value = loaded;
    text.textContent = `${size(loaded)} of ${size(total)}, ${size(rate)}/s${left((total - loaded) / rate)}`;
  });
  const fail = (words) => { sending.hidden = false; bar.removeAttribute("value"); bar.hidden = true; text.textContent = words; button.disabled = false; };
  request.addEventListener("error", () => fail("The connection was lost, or the files are larger than the server takes. Nothing was kept; try again."));
  request.addEventListener("load", () => {
    if (new URL(request.responseURL).pathname !== window.location.pathname) {
      window.location.assign(request.responseURL);
      return;
    }
    const answer = new DOMParser().parseFromString(request.responseText, "text/html").querySelector("form[data-upload]");
    if (!answer) { fail(`The server answered ${request.status}. Nothing was kept; try again.`); return; }
    form.replaceWith(document.adoptNode(answer));
    attach(answer);
    answer.querySelector(".form-error, .alert")?.scrollIntoView({ block: "center" });
  });
  request.open("POST", form.action);
  request.send(new FormData(form));
}

for (const form of document.querySelectorAll("form[data-upload]")) attach(form);
