// What the server is asked.  An error becomes an exception whose message can be shown.

let key = null; // of the video that this page shows; another server on the same port may have another one

async function ask(method, path, body) {
  const response = await fetch(path, { method, body, headers: key ? { 'X-Video': key } : {} });
  if (response.ok) return response;
  if (response.status === 413) throw new Error('That is too much at once.');
  if (response.status === 403) throw new Error('The server has been started again: open the address that it has printed.');
  const text = await response.text();
  let told = text;
  try { told = JSON.parse(text).error; } catch { /* not from the page's own requests */ }
  throw Object.assign(new Error(told || `The server says ${response.status}.`), { refused: response.status < 500 });
}

const page = 1 + Math.floor(Math.random() * 1e9); // who asks: each page takes back its own steps

const json = async (method, path, body = {}) => (await ask(method, path, JSON.stringify(body))).json();
const bytes = async (method, path, body) => new Uint8Array(await (await ask(method, path, body)).arrayBuffer());

export const state = async (since) => (await ask('GET', `api/state?since=${since}`)).json();
export const frame = async (index, run) => createImageBitmap(await (await ask('GET', `api/frame/${index}?run=${run}`)).blob());
export const mask = (index) => bytes('GET', `api/mask/${index}`);
export const give = async (index, labels, gone, step) => (await ask('PUT', `api/mask/${index}?page=${page}&step=${step}&gone=${gone}`, labels)).json();
export const forget = async (index, step) => (await ask('DELETE', `api/mask/${index}?page=${page}&step=${step}`)).json();
export const replaced = (index) => bytes('GET', `api/replaced/${index}`);
export const restore = async (index, step) => (await ask('POST', `api/replaced/${index}?page=${page}&step=${step}`)).json();
export const undo = (again) => json('POST', 'api/undo', { page, again });
export const cut = (index, told) => bytes('POST', `api/cut/${index}`, told);
export const importFiles = async (index, object, files) => {
  const told = files.flatMap((file) => [['name', file.name], ['size', file.size]]);
  const query = new URLSearchParams([['object', object], ['page', page], ...told]);
  return (await ask('POST', `api/import/${index}?${query}`, new Blob(files))).json();
};
export const addObject = (name) => json('POST', 'api/object', { name });
export const changeObject = (id, change) => json('PATCH', `api/object/${id}`, change);
export const removeObject = (id) => json('DELETE', `api/object/${id}?page=${page}`);
export const follow = (frames) => json('POST', 'api/follow', frames);
export const stop = () => json('POST', 'api/stop');
export const exportAs = (kind) => json('POST', 'api/export', { kind });

// Calls `heard` with each news of the server, for ever; `lost` with what is wrong meanwhile.
export async function listen(heard, lost) {
  let since = 0;
  for (;;) {
    try {
      const news = await state(since);
      since = news.version;
      key ??= news.video.key;
      if (news.video && news.video.key !== key) { location.reload(); return; }
      heard(news);
    } catch (error) {
      lost(error instanceof TypeError ? 'No connection to the server; trying again.' : error.message);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      since = 0;
    }
  }
}
