// Sets the width of a bar from data-width="0…100" (a percentage): style attributes are not allowed here.

function apply(root) {
  for (const bar of root.querySelectorAll?.("[data-width]") ?? []) bar.style.width = `${bar.dataset.width}%`;
}

apply(document);
document.addEventListener("htmx:after:swap", () => apply(document));
