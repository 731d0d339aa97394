"""The script of a sweep's page: which reading is shown, where the cursor is, what its cell says."""

SCRIPT = """\
'use strict';
(() => {
  const page = JSON.parse(document.getElementById('figures').textContent);
  const line = document.getElementById('value'), more = document.getElementById('more');
  const maps = [...document.querySelectorAll('table.map')];
  let name = page.measures[0].name;

  const number = value => value === null ? 'not set'
    : typeof value === 'string' ? ({'Infinity': '∞', '-Infinity': '−∞'})[value] || 'not a number'
    : String(Number.isInteger(value) ? value : Number(value.toPrecision(4))).replace('-', '−');

  function paint() {
    for (const map of maps) {
      const shades = page.cases[map.dataset.case].shades[name];
      map.classList.toggle('diverging', page.measures.find(each => each.name === name).diverging);
      for (const cell of map.querySelectorAll('td[data-c]')) {
        const shade = shades[cell.dataset.c];
        cell.classList.toggle('unset', shade === null);
        cell.style.setProperty('--v', shade === null ? 0 : shade);
      }
    }
    for (const legend of document.querySelectorAll('.legend')) legend.hidden = legend.dataset.of !== name;
  }

  function tell(cell) {
    const map = cell.closest('table'), from = page.cases[map.dataset.case];
    const at = cell.dataset.c, row = cell.parentNode.firstElementChild.textContent;
    const layers = map.tHead.rows[0].cells[cell.cellIndex].textContent;
    const where = `${row}, layer${layers.includes('–') ? 's' : ''} ${layers}`;
    if (at === undefined) {
      line.textContent = `${where}: no cell in this sweep`;
      more.textContent = '';
      return;
    }
    const label = page.measures.find(each => each.name === name).label;
    const value = number(from.cells[name][at]);
    line.textContent = `${where}: ${label} ${value}`;
    const ties = from.cells.ties[at];
    cell.setAttribute('aria-label', value);
    if (!from.cells.exact[at]) {
      more.textContent = `Grafted: ${from.sets[from.cells.set[at]]}. Only estimated: `
        + `${number(from.cells.estimate[at])} nats.`;
      return;
    }
    more.textContent = `Grafted: ${from.sets[from.cells.set[at]]}. ` + page.measures.map(each =>
      `${each.label} ${number(from.cells[each.name][at])}`).join(', ')
      + (ties ? `, ${ties} tied` : '') + `. Likeliest: ${from.cells.top[at]}`
      + ` (${number(from.cells.top_probability[at])}).`;
  }

  function move(cell, focus) {
    const map = cell.closest('table'), old = map.querySelector('td[tabindex]');
    if (old) old.removeAttribute('tabindex');
    cell.tabIndex = 0;
    if (focus) cell.focus();
  }

  const STEPS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  for (const map of maps) {
    const body = map.tBodies[0], cells = row => [...row.cells].filter(cell => cell.tagName === 'TD');
    if (body.rows.length) move(cells(body.rows[0])[0], false);
    map.addEventListener('keydown', event => {
      const cell = event.target.closest('td');
      if (!cell || event.ctrlKey || event.altKey || event.metaKey) return;
      const row = cells(cell.parentNode), rows = [...body.rows];
      let down = rows.indexOf(cell.parentNode), across = row.indexOf(cell);
      if (event.key in STEPS) {
        down += STEPS[event.key][0];
        across += STEPS[event.key][1];
      } else if (event.key === 'Home') across = 0;
      else if (event.key === 'End') across = row.length - 1;
      else return;
      event.preventDefault();
      if (rows[down] && row[across]) move(cells(rows[down])[across], true);
    });
    map.addEventListener('focusin', event => event.target.closest('td') && tell(event.target.closest('td')));
    map.addEventListener('click', event => event.target.closest('td') && move(event.target.closest('td'), true));
    map.addEventListener('mouseover', event => event.target.closest('td') && tell(event.target.closest('td')));
  }
  document.querySelector('.switch').addEventListener('change', event => {
    name = event.target.value;
    paint();
    const cell = document.querySelector('td[tabindex]:focus');
    if (cell) tell(cell);
    else {
      line.textContent = `Shown: ${page.measures.find(each => each.name === name).label}`;
      more.textContent = '';
    }
  });
  paint();
})();"""
