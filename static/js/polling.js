// Hidden tabs do not poll, and are brought up to date at once when they are seen again.
// A poll that is sent to the sign-in page takes the whole page there, not into a fragment.

const POLLS = "[hx-trigger*='every']";

document.addEventListener("htmx:config:request", (event) => {
  if (document.hidden && event.detail.ctx.sourceEvent?.type === "every") event.preventDefault();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll(POLLS)) window.htmx?.trigger(element, "every", {}, false);
});

document.addEventListener("htmx:after:request", (event) => {
  const response = event.detail.ctx.response?.raw;
  if (response?.redirected && new URL(response.url).pathname.startsWith("/accounts/")) {
    event.preventDefault();
    window.location.reload();
  }
});
