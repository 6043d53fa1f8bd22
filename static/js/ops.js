// Small conveniences of the operator pages; everything but live refresh works without it.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-menu]");
  if (!button) return;
  const side = document.getElementById(button.getAttribute("aria-controls"));
  button.setAttribute("aria-expanded", String(side.classList.toggle("open")));
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit-on-change]")) event.target.form.submit();
});
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});
// A table wider than its box can be scrolled by keyboard as well.
const reachable = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth <= box.clientWidth) { box.removeAttribute("tabindex"); continue; }
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", box.querySelector("h2")?.innerText ?? document.querySelector("h1").innerText);
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);
document.addEventListener("htmx:afterSwap", reachable);
