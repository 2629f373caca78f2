// The list of objects: colour, name, lock, hide, remove.

import * as api from './api.js';

export function showObjects(list, page, { choose, changed, tell }) {
  const typing = list.contains(document.activeElement) && document.activeElement.matches('input');
  const key = JSON.stringify([page.objects, page.object]);
  if (typing || list.dataset.key === key) return; // else the text would be lost, or a button go while it is pressed
  list.dataset.key = key;
  const rows = [...list.children], focused = rows.findIndex((row) => row.contains(document.activeElement));
  const part = focused < 0 ? -1 : [...rows[focused].children].indexOf(document.activeElement);
  const trying = async (action) => { try { await action(); } catch (error) { tell(error.message, true); } };
  list.replaceChildren(...page.objects.map((each, i) => {
    const row = document.createElement('li');
    row.classList.toggle('chosen', each.id === page.object);
    const swatch = button(String(i + 1), `Choose ${each.name} (${i + 1}); once more: its colour`, () => {
      const picker = document.getElementById('colour');
      if (each.id !== page.object) { choose(each.id); return; }
      picker.value = `#${each.colour.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
      picker.click();
    });
    swatch.className = 'swatch';
    swatch.style.background = `rgb(${each.colour})`;
    swatch.setAttribute('aria-pressed', each.id === page.object);
    const name = document.createElement('input');
    Object.assign(name, { type: 'text', value: each.name, maxLength: 80, ariaLabel: 'Name' });
    name.addEventListener('focus', () => { if (page.object !== each.id) { choose(each.id); row.parentNode.querySelectorAll('li').forEach((other) => other.classList.toggle('chosen', other === row)); } });
    name.addEventListener('change', () => trying(() => api.changeObject(each.id, { name: name.value })));
    name.addEventListener('keydown', (event) => { if (event.key === 'Enter') name.blur(); });
    const turn = async (field) => {
      each[field] = !each[field];
      changed();
      await api.changeObject(each.id, { [field]: each[field] });
    };
    const hide = button(each.hidden ? 'Show' : 'Hide', 'Hidden objects are left out of films and cut-outs', () => trying(() => turn('hidden')));
    const lock = button('Lock', `Drawing other objects and following ${each.locked ? 'do not change' : 'change'} ${each.name}`, () => trying(async () => {
      await turn('locked');
      tell(each.locked ? `${each.name} stays where it was found, whatever you draw or follow.` : `Drawing and following change ${each.name} again.`);
    }));
    lock.setAttribute('aria-pressed', each.locked);
    const remove = button('✕', `Remove ${each.name}, with all its masks`, () => {
      if (confirm(`Remove ${each.name} and all its masks?`)) trying(() => api.removeObject(each.id));
    });
    row.append(swatch, name, lock, hide, remove);
    return row;
  }));
  list.children[focused]?.children[part]?.focus(); // for those who use keys
}

function button(text, title, action) {
  const result = document.createElement('button');
  Object.assign(result, { textContent: text, title, className: 'small', ariaLabel: title });
  result.addEventListener('click', action);
  return result;
}
