// The upload form: files can be dropped on it, are listed before they are sent, and show how far they are. They are
// sent piece by piece (sending.js), then the form goes without them and the server makes a dataset of what arrived.
// Without this file the form still works as any form with a file field does.
import { Sending, canResume, forget } from "./sending.js";

function size(bytes) {
  for (const unit of ["B", "KB", "MB", "GB", "TB"]) {
    const text = unit === "B" || bytes >= 99.95 ? bytes.toFixed(0) : bytes.toFixed(1);
    if (Number(text) < 1000 || unit === "TB") return `${text} ${unit}`;
    bytes /= 1000;
  }
}

function left(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 90) return `, ${Math.ceil(seconds)} s left`;
  return seconds < 5400 ? `, ${Math.ceil(seconds / 60)} min left` : `, ${(seconds / 3600).toFixed(1)} h left`;
}

function idOf(address) {
  return address.split("/").filter(Boolean).at(-1);
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
      item.append(document.createElement("span"));
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
    if (input.disabled || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    show();
  });

  form.addEventListener("submit", (event) => {
    const arrived = form.querySelectorAll("[data-arrived] input").length > 0;
    if (!canResume() || !input.checkValidity() || !(input.files.length || arrived)) return;
    event.preventDefault();
    send(form);
  });
}

async function send(form) {
  const input = form.querySelector("input[type=file]");
  const bar = form.querySelector("[data-sent]");
  const text = form.querySelector("[data-sent-text]");
  const button = form.querySelector("[data-send]");
  const cancel = form.querySelector("[data-cancel]");
  const notes = [...form.querySelectorAll("[data-files] li span")];
  const files = [...input.files];
  const earlier = files.length ? [] : [...form.querySelectorAll("[data-arrived] input")].map((each) => each.value);

  function idle(words) {
    bar.hidden = true;
    text.textContent = words;
    input.disabled = button.disabled = false;
    cancel.hidden = true;
  }

  form.querySelector("[data-sending]").hidden = bar.hidden = false;
  bar.value = 0;
  text.textContent = "";
  input.disabled = button.disabled = true;
  cancel.hidden = false;

  const sending = new Sending({
    endpoint: form.dataset.upload,
    csrf: form.querySelector("input[name=csrfmiddlewaretoken]").value,
    files,
    onProgress({ file, sent, all, total, rate }) {
      notes[files.indexOf(file)].textContent = sent < file.size ? ` · ${Math.floor((sent / file.size) * 100)} %` : " · sent";
      bar.max = total || 1;
      bar.value = all;
      const pace = Number.isFinite(rate) ? `, ${size(rate)}/s${left((total - all) / rate)}` : "";
      text.textContent = `${size(all)} of ${size(total)}${pace}`;
    },
    onWaiting() { text.textContent = "The connection was lost. What has arrived is kept; going on as soon as it is back."; },
    onAgain(file, address) {
      notes[files.indexOf(file)].textContent = " · goes on where it stopped";
      document.querySelector(`[data-upload-id="${idOf(address)}"]`)?.remove();
    },
  });
  cancel.onclick = async () => {
    cancel.disabled = true;
    await sending.cancel();
    await forget(sending.addresses);
    cancel.disabled = false;
    for (const note of notes) note.textContent = "";
    idle("Cancelled; nothing was kept.");
    button.focus();
  };
  let addresses;
  try {
    addresses = await sending.all();
  } catch (error) {
    if (!sending.stopped) idle(error.message);
    return;
  }
  cancel.hidden = true;
  text.textContent = "All has arrived; making a dataset of it.";
  if (await make(form, [...earlier, ...addresses.map(idOf)], idle)) await forget(addresses);
}

/** Send the form itself with the uploads in the place of the files, and go where the answer says; whether one was made. */
async function make(form, uploads, idle) {
  const said = new FormData(form);
  said.delete("file");
  said.delete("upload");
  for (const upload of uploads) said.append("upload", upload);
  let response;
  try {
    response = await fetch(form.action, { method: "POST", body: said });
  } catch {
    idle("All has arrived, but the connection was lost then. Press Upload once more; nothing is sent again.");
    return false;
  }
  if (new URL(response.url).pathname !== window.location.pathname) {
    window.location.assign(response.url);
    return true;
  }
  const answer = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("form[data-upload]");
  if (!answer) {
    idle(`The server answered ${response.status}. Press Upload once more; nothing is sent again.`);
    return false;
  }
  form.replaceWith(document.adoptNode(answer));
  attach(answer);
  answer.querySelector(".form-error, .alert")?.scrollIntoView({ block: "center" });
  return false;
}

for (const form of document.querySelectorAll("form[data-upload]")) attach(form);
