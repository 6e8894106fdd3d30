"use strict";
document.documentElement.classList.add("scripted");

// A click on ▸ shows the runs of a configuration.
for (const button of document.querySelectorAll("button.more")) {
  button.addEventListener("click", () => {
    const open = button.closest("tbody").classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  });
}

// A click on a heading sorts the configurations; each takes its runs along. What is missing stays at the end.
const byValue = (a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b), "en", { numeric: true }) : a - b);
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.querySelectorAll("th[aria-sort]")];
  heads.forEach((head, i) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (body) => body.rows[0].cells[i].dataset.value;
      const bodies = [...table.tBodies].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return up ? byValue(x, y) : byValue(y, x);
      });
      table.append(...bodies);
    });
  });
}

// A click on the name of a source shows or hides its columns.
for (const button of document.querySelectorAll("button[data-of]")) {
  const cells = button.closest("section").querySelectorAll("table.results ." + button.dataset.of);
  const apply = () => cells.forEach((cell) => (cell.hidden = button.getAttribute("aria-pressed") === "false"));
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    apply();
  });
  apply();
}

// A click on a picture makes it as wide as the page.
for (const button of document.querySelectorAll(".pictures button")) {
  button.addEventListener("click", () => button.closest("figure").classList.toggle("large"));
}

// A link to a run opens its pictures.
const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) target.open = true;
};
addEventListener("hashchange", reveal);
reveal();
