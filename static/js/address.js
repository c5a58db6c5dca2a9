// A form with data-address: what is chosen in it stands in the address at once, so that the page can be reloaded,
// kept and sent to somebody. The form may be replaced meanwhile: it is looked for at each change.

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("form[data-address]");
  if (!form) return;
  const said = new URLSearchParams(new FormData(form));
  history.replaceState(history.state, "", `${location.pathname}?${said}`);
});
