"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.order;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const words = column === 0, was = head.getAttribute("aria-sort");
      const descending = was ? was === "ascending" : !words;
      const compare = (a, b) => words ? key(a, 0).localeCompare(key(b, 0)) : key(a, column) - key(b, column);
      const known = [...body.rows].filter((row) => key(row, column) !== "");
      const unknown = [...body.rows].filter((row) => key(row, column) === "");
      known.sort((a, b) => (descending ? -1 : 1) * compare(a, b));
      body.append(...known, ...unknown);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  });
}
for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button"), text = command.querySelector("pre");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  command.append(button);
}
