// The page: what is shown where, and what keys and buttons do.

import * as api from './api.js';
import { Document } from './document.js';
import { Labels } from './labels.js';
import { showObjects } from './objects.js';
import { TimeLine } from './timeline.js';
import { Tools } from './tools.js';
import { View } from './view.js';

const $ = (id) => document.getElementById(id);
const view = new View($('stage'));
const page = { objects: [], object: 0, added: null, video: null, job: { done: 0 }, behind: false, watching: false, playing: false, replaced: null, undone: 0 };
const shown = new Document({ changed: () => { page.replaced = null; show(); }, failed: (text) => tell(text, true), saving, locked });
const line = new TimeLine($('timeline'), (index) => { page.watching = false; go(index); }, (index) => api.frame(index, page.video.run));
const tools = new Tools({ stage: $('stage'), view, shown, page, tell });

// The objects that only drawing them themselves changes.
function locked() {
  return new Set(page.objects.filter((each) => (each.locked || each.hidden) && each.id !== page.object).map((each) => each.id));
}

function saving(text) {
  $('saved').textContent = text;
  $('saved').classList.toggle('failed', text === 'NOT saved');
}

function tell(text, failed = false) {
  $('message').textContent = text;
  $('message').title = text;
  $('message').classList.toggle('failed', failed);
}

const trying = (action) => async (...given) => {
  try { await action(...given); } catch (error) { tell(error.message, true); }
};

// showing

function show() {
  view.colours = new Map(page.objects.filter((each) => !each.hidden).map((each) => [each.id, each.colour]));
  if (shown.bitmap) view.showFrame(shown.bitmap);
  if (shown.labels) view.showLabels(page.replaced ?? shown.labels);
  document.body.dataset.ready = shown.labels ? shown.index : '';
  showState();
}

function showState() {
  const given = shown.given.has(shown.index), result = line.results[shown.index];
  $('kind').textContent = given ? 'given' : { f: 'followed', r: 'one direction so far', o: 'old' }[result] ?? 'no mask';
  $('forget').disabled = !given; $('keep').disabled = !hasMask();
  const sure = line.sureness[shown.index];
  $('sure').textContent = given || sure === null || sure === undefined ? '' : `sure: ${Math.round(100 * sure)} %`;
  const { worse } = line, wasSure = worse.includes(shown.index) ? line.wasSure[shown.index] : null;
  $('worse').hidden = !worse.length; $('worse').textContent = `${worse.length} less sure`;
  $('worse').title = `Frames ${worse.join(', ')}: go to the next one (W)`;
  $('before').hidden = $('restore').hidden = wasSure === null;
  $('before').setAttribute('aria-pressed', page.replaced !== null);
  if (wasSure !== null) $('sure').textContent += `, was ${Math.round(100 * wasSure)} %`;
  const { running, kind, done, total, link } = page.job;
  $('progress').hidden = !running; $('progress').max = total || 1; $('progress').value = done;
  $('stop').hidden = !running; $('follow').hidden = $('reach').hidden = running;
  $('frames').hidden = running || !Number($('reach').value);
  $('follow').disabled = !page.behind; $('export').disabled = running;
  if (running) tell(`${{ follow: 'Following', export: 'Exporting', clean: 'Tidying up' }[kind]}${total ? `: ${done} of ${total}${timeLeft()}` : '…'}`);
  $('download').hidden = running || !link;
  if (link) $('download').href = link;
  line.given = shown.given; line.current = shown.index;
  line.draw();
}

// Whether there is a mask that could be right; else it would say that all objects are gone.
function hasMask() { return shown.labels && (shown.given.has(shown.index) || (line.results[shown.index] ?? '.') !== '.'); }

function timeLeft() {
  const { done, total } = page.job, made = done - page.began.done;
  if (made < 3 || done >= total) return '';
  const seconds = Math.round((performance.now() - page.began.time) / 1000 / made * (total - done));
  return `, ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} left`;
}

function go(index) {
  tools.leave();
  page.replaced = null;
  shown.go(index);
  if (document.activeElement !== $('number')) $('number').value = shown.index;
  showState();
}

// news of the server

function heard(news) {
  if (news.video && news.video.run !== page.video?.run) open(news.video);
  const before = page.job;
  Object.assign(page, { objects: news.objects, job: news.job, behind: news.behind });
  if (news.job.running && !(before.running && before.done)) page.began = { done: news.job.done, time: performance.now() };
  if (!shown.waiting) {
    shown.given.clear();
    news.given.forEach((index) => shown.given.add(index));
  }
  for (const [index, result, sureness, , seen, gone, wasSure] of news.frames) {
    line.results[index] = result; line.sureness[index] = sureness; line.seen[index] = seen; line.gone[index] = gone;
    line.wasSure[index] = wasSure;
  }
  line.track(page.objects);
  for (const [index, , , version] of news.frames) shown.heard(index, version);
  const has = (id) => page.objects.some((each) => each.id === id);
  if (has(page.added)) page.added = null; // until then, news may be older than it
  if (!has(page.object) && page.object !== page.added) { tools.leave(); page.object = page.objects[0]?.id ?? 0; }
  const others = before.number !== undefined && before.number !== news.job.number; // of which this page may have heard nothing
  if ((before.running || others) && !news.job.running) {
    const { length } = news.job.kind === 'follow' ? line.worse : [];
    tell(`${news.job.message}${length ? ` ${length} frames are less sure than before: look (W).` : ''}`, news.job.failed);
    if (page.watching && news.job.kind === 'follow') go(page.from); // where the mask was drawn
    page.watching = false;
  }
  if (page.watching && news.job.running && news.job.kind === 'follow' && news.job.done && news.job.frame !== shown.index) go(news.job.frame);
  showList();
  const looks = JSON.stringify(news.objects.map(({ id, colour, hidden }) => [id, colour, hidden]));
  if (looks !== page.looks) show(); // all pixels
  else showState();
  page.looks = looks;
}

function showList() { showObjects($('objects'), page, { choose, changed: show, tell }); }

function open(video) {
  page.video = video;
  document.title = `${video.name}: masks`;
  $('video-name').textContent = video.name;
  $('list').hidden = !video.listed;
  $('count').textContent = `of ${video.length} (0 to ${video.length - 1})`;
  $('number').max = video.length - 1;
  line.clear(video.length);
  view.setSize(video.width, video.height);
  shown.open(video);
  go(Math.min(shown.index, video.length - 1));
  tell('Click on an object, then Follow (F); ? for keys.');
  $('message').title += ` All is saved in ${video.output}.`;
}

// actions

// The next object of the list, or the one before.
function chooseBy(step) {
  const { objects } = page, place = objects.findIndex((each) => each.id === page.object);
  if (objects.length) choose(objects[(place + step + objects.length) % objects.length].id);
}

// Digits soon after each other are one number.
function digit(key) {
  const now = performance.now();
  typed = { text: (now - typed.time < 1000 ? typed.text : '') + key, time: now };
  if (!page.objects[Number(typed.text) - 1]) typed.text = key;
  const chosen = page.objects[Number(typed.text) - 1];
  if (chosen) choose(chosen.id);
  return chosen;
}

function choose(id) {
  page.object = id;
  tools.leave();
  showList();
}

let typed = { text: '', time: -Infinity };

const add = trying(async () => { page.added = (await api.addObject('')).id; choose(page.added); });

// Until what was drawn and asked for is saved.
async function saved() {
  while (tools.asking) await new Promise((resolve) => setTimeout(resolve, 50));
  await shown.queue;
}

const follow = trying(async () => {
  await saved();
  const { value } = $('reach'), reach = Number(value) * Math.max(1, Math.round(Number($('frames').value)));
  const end = Math.min(page.video.length - 1, Math.max(0, shown.index + reach));
  Object.assign(page, { watching: true, from: shown.index }); // before the server answers, since a stroke ends it
  try {
    await api.follow(value ? { first: Math.min(shown.index, end), last: Math.max(shown.index, end) } : {});
  } catch (error) {
    page.watching = false;
    throw error;
  }
});

function keep() {
  if (!hasMask()) return;
  if (page.replaced) { restore(); return; } // which is what is seen
  tools.leave();
  shown.state();
  tell(`Frame ${shown.index} is right as it is: its mask is given.`);
}

function clear() {
  const object = page.objects.find((each) => each.id === page.object);
  if (!shown.labels || !object) return;
  tools.leave();
  shown.state(object.id);
  tell(`${object.name} is not in frame ${shown.index}.`);
}

function forget() {
  tools.leave();
  shown.forget();
  tell(`The mask of frame ${shown.index} is not given any more.`);
}

const importFiles = trying(async () => {
  const files = [...$('files').files], index = shown.index;
  $('files').value = ''; // so that the same file can be chosen again
  if (!files.length) return;
  tell('Reading…');
  tools.leave(); // what is drawn on it counts before
  await saved();
  const { told } = await api.importFiles(index, page.object, files);
  const what = files.length > 3 ? `${files.length} files` : files.map((file) => file.name).join(', ');
  tell(`Imported ${what}: ${told}.`);
});

function worst() {
  const found = line.worst();
  tell(found?.told ?? 'There is nothing to compare yet: follow first.');
  if (found) { page.watching = false; go(found.index); }
}

// To the next frame that is less sure than before.
function worse() {
  const next = line.worse.find((index) => index > shown.index) ?? line.worse[0];
  if (next === undefined) { tell('No frame is less sure than before.'); return; }
  page.watching = false;
  go(next);
  tell(`Frame ${next} is less sure than before: look at it before, and keep the old mask if that was right.`);
}

const before = trying(async () => {
  const index = shown.index;
  const data = page.replaced ? null : await api.replaced(index);
  if (index !== shown.index || !shown.labels) return;
  tools.leave();
  page.replaced = data && new Labels(page.video.width, page.video.height, data);
  show();
});

function restore() {
  tools.leave();
  shown.restore();
  tell(`Frame ${shown.index} has its old mask, which is given now.`);
}

function help() { $('help').showModal(); }

async function play() {
  page.playing = !page.playing;
  page.watching = false;
  $('play').textContent = page.playing ? 'Pause' : 'Play';
  if (!page.playing) return;
  if (shown.index === page.video.length - 1) shown.index = -1;
  let next = performance.now();
  while (page.playing && shown.index < page.video.length - 1) {
    for (let ahead = 2; ahead < 12 && shown.index + ahead < page.video.length; ahead++) shown.picture(shown.index + ahead).catch(() => {});
    const index = shown.index + 1;
    tools.leave();
    await shown.go(index);
    if (shown.index !== index) break; // someone went elsewhere
    $('number').value = index;
    next = Math.max(next + 1000 / page.video.rate, performance.now());
    await new Promise((resolve) => setTimeout(resolve, next - performance.now()));
  }
  page.playing = false;
  $('play').textContent = 'Play';
}

function leaveFor(index) {
  page.watching = page.playing = false;
  go(index);
}

function step(event, by) { leaveFor(shown.index + by * (event.shiftKey ? 10 : 1)); }

const keys = {
  ArrowLeft: (event) => step(event, -1), ArrowRight: (event) => step(event, 1),
  Home: () => leaveFor(0), End: () => leaveFor(page.video.length - 1),
  ' ': play, n: add, k: keep, l: worst, w: worse, '?': help,
  f: () => !$('follow').hidden && !$('follow').disabled && follow(),
  Delete: () => !$('forget').disabled && forget(), 0: () => view.fit(),
  ',': () => chooseBy(-1), '.': () => chooseBy(1),
  '+': () => zoom(1.25), '-': () => zoom(0.8),
};

function zoom(factor) {
  const { left, top, width, height } = $('stage').getBoundingClientRect();
  view.zoomAt(factor, left + width / 2, top + height / 2);
}

addEventListener('keydown', (event) => {
  if (!page.video || event.target.matches('input[type=number], input[type=text]') || $('help').open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.target.matches('select') && key !== 'ArrowLeft' && key !== 'ArrowRight') return; // up and down choose
  if (event.ctrlKey || event.metaKey) {
    if (key === 'z' || key === 'y') {
      event.preventDefault();
      undo(key === 'y' || event.shiftKey);
    }
    return;
  }
  if (event.repeat && !key.startsWith('Arrow') && !['[', ']', '+', '-', ',', '.', 'Backspace'].includes(key)) return;
  if (event.target.matches('button') && (key === ' ' || key === 'Enter')) return; // which press it
  if (event.target.matches('input[type=range]') && key.startsWith('Arrow')) return;
  if (!(/^[0-9]$/.test(key) && digit(key))) {
    if (keys[key]) { tools.finish(); keys[key](event); }
    else if (!tools.key(key)) return;
  }
  event.preventDefault();
});

let undoing = Promise.resolve();

// Steps wait for one another, so that none is lost when keys come quickly.
function undo(again) { undoing = undoing.then(() => undoOne(again)); }

const undoOne = trying(async (again) => {
  if (!again && tools.points.length) { tools.key('Backspace'); return; } // a corner of the polygon in the making
  if (tools.drawing) return;
  page.watching = page.playing = false;
  tools.leave(); // scribbles, whose mask may go
  page.undone += 1;
  const { frame, told } = await shown.undo(again);
  tell(`${again ? 'Redo' : 'Undo'}: ${told}.`);
  go(frame ?? shown.index);
});

for (const [id, action] of Object.entries({
  follow, stop: trying(api.stop), add, keep, forget, clear, play, least: worst, worse, before, restore, question: help,
  import: () => $('files').click(), fit: () => view.fit(), undo: () => undo(false), redo: () => undo(true),
})) $(id).addEventListener('click', action);

$('reach').addEventListener('change', showState);
for (const id of ['size', 'opacity']) $(id).addEventListener('pointerup', () => $('stage').focus({ preventScroll: true }));
$('colour').addEventListener('change', trying(() => api.changeObject(page.object, { colour: $('colour').value })));
$('files').addEventListener('change', importFiles);
$('number').addEventListener('change', () => leaveFor(Number($('number').value) || 0));
$('number').addEventListener('keydown', (event) => { if (event.key === 'Enter') $('stage').focus(); });
$('export').addEventListener('click', trying(async () => { await saved(); await api.exportAs($('format').value); }));
// so that Space plays after a click; keys still press the button that Tab has reached
addEventListener('click', (event) => { if (event.detail && event.target.closest('button')) $('stage').focus({ preventScroll: true }); });
$('opacity').addEventListener('input', () => {
  view.opacity = $('opacity').value / 100;
  $('opacity-text').textContent = `${$('opacity').value} %`;
  show();
});
$('opacity').dispatchEvent(new Event('input'));
addEventListener('beforeunload', (event) => { if (shown.waiting || tools.unfinished) event.preventDefault(); });

let first = true;
api.listen((news) => {
  if (first && !news.objects.length) add();
  first = false;
  heard(news);
}, (text) => tell(text, true));
