// Tables that grow downwards: rows out of an API's pages, the older ones on demand.

import { read, showFailure } from "./live.js";

/** A cell; on a narrow screen, where rows are cards, its label stands beside it. */
export function cell(label, content, className = "") {
  const element = document.createElement("td");
  element.dataset.label = label;
  element.setAttribute("role", "cell");
  if (className) element.className = className;
  element.append(content);
  return element;
}

/** A row of cells. */
export function row(...cells) {
  const element = document.createElement("tr");
  element.setAttribute("role", "row");
  element.append(...cells);
  return element;
}

/** A table fed by a paged list of the API. */
export class Rows {
  #next = null;

  /**
   * @param {HTMLTableElement} table
   * @param {HTMLButtonElement} older what asks for the next page
   * @param {(row: object) => HTMLTableRowElement} make
   * @param {string} name of the list in a page
   */
  constructor(table, older, make, name) {
    Object.assign(this, { table, older, make, name, grown: false });
    // Rows that are shown as cards would else be no table any more for a screen reader.
    table.setAttribute("role", "table");
    for (const group of table.querySelectorAll("thead, tbody")) group.setAttribute("role", "rowgroup");
    for (const line of table.querySelectorAll("thead tr")) line.setAttribute("role", "row");
    for (const head of table.querySelectorAll("th")) head.setAttribute("role", "columnheader");
    older.addEventListener("click", () => this.grow().catch(showFailure));
  }

  /** Show the newest page; whether there was anything in it. */
  async show(path) {
    const page = await read(path);
    this.table.tBodies[0].replaceChildren(...page[this.name].map(this.make));
    this.#take(page);
    return page[this.name].length > 0;
  }

  /** Show the next older page too. */
  async grow() {
    this.grown = true;
    const page = await read(this.#next);
    const fresh = page[this.name].map(this.make);
    this.table.tBodies[0].append(...fresh);
    this.#take(page);
  }

  #take(page) {
    this.#next = page.next ?? null; // some lists have one page
    this.older.hidden = this.#next === null;
    this.table.hidden = this.table.tBodies[0].rows.length === 0;
  }
}
