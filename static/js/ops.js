// Small conveniences of the operator pages; everything but live refresh works without it.
const menu = (open) => {
  const button = document.querySelector("[data-menu]");
  const side = document.getElementById(button.getAttribute("aria-controls"));
  button.setAttribute("aria-expanded", String(side.classList.toggle("open", open)));
  return button;
};
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-menu]")) menu();
});
// The browser's own way back keeps what was typed into the form that was refused.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-back]") || history.length < 2) return;
  event.preventDefault();
  history.back();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.querySelector(".side.open")) menu(false).focus();
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit-on-change]")) event.target.form.submit();
});
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});
// A phone shows a table that is wider than it as blocks of label and value: no column is hidden.
const phone = window.matchMedia("(max-width: 720px)");
const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
const stack = (table) => {
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td")]) {
    part.setAttribute("role", roles[part.tagName]);
  }
  for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
    if (row.cells.length !== labels.length) continue;
    [...row.cells].forEach((cell, place) => {
      if (labels[place]) cell.dataset.label = labels[place];
      cell.classList.toggle("blank", !cell.textContent.trim() && !cell.querySelector("input, progress"));
    });
  }
  table.classList.add("stacked");
};
const room = (box) => {
  const style = getComputedStyle(box);
  return box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
};
// What is still wider than its box can be scrolled by keyboard as well.
const fit = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    const tables = [...box.querySelectorAll("table")];
    for (const table of tables) table.classList.remove("stacked");
    if (phone.matches) {
      const wide = tables.filter((table) => table.tHead && table.offsetWidth > room(table.parentElement));
      wide.forEach(stack);
    }
    if (box.scrollWidth <= box.clientWidth) { box.removeAttribute("tabindex"); continue; }
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", box.querySelector("h2")?.innerText ?? document.querySelector("h1").innerText);
  }
};
addEventListener("load", fit);
addEventListener("resize", fit);
document.addEventListener("htmx:afterSwap", fit);
fit();
