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
