// The data: scripts beside the page, loaded when they are needed.

const FOLDER = "features-data/";
// Files of a kind kept in memory.
const MOST_FILES = { features: 24, pictures: 64 };

const loaded = new Map();

/** What every file of data calls. */
function softsae(name, value) {
  loaded.set(document.currentScript.dataset.folder + name, value);
}

/** The value of a name, from its file in a folder of data. */
function load(name, folder = FOLDER) {
  const key = folder + name;
  if (loaded.has(key)) return Promise.resolve(loaded.get(key));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const fail = () => reject(new Error(`${key}.js cannot be read${folder === FOLDER ? "; the page needs this folder beside it" : ""}`));
    script.onload = () => {
      script.remove();
      if (!loaded.has(key)) return fail();
      resolve(loaded.get(key));
      return forget(name.split("/")[0]);
    };
    script.onerror = fail;
    script.dataset.folder = folder;
    script.src = `${key}.js`;
    document.head.append(script);
  });
}

/** Forgets the files of a kind that were used first. */
function forget(kind) {
  const files = [...loaded.keys()].filter((key) => key.includes(`${FOLDER}${kind}/`));
  for (const old of files.slice(0, Math.max(0, files.length - MOST_FILES[kind]))) loaded.delete(old);
}

let INDEX = null;
let SET = null;
let COLUMNS = null;

/** A feature, whose number must be there. */
async function feature(number, index = INDEX, folder = FOLDER) {
  const file = Math.floor(number / index.features_per_file);
  const name = `features/${file}`;
  const records = await load(name, folder);
  // The files used last are the last of the map.
  loaded.delete(folder + name);
  loaded.set(folder + name, records);
  return records[number - file * index.features_per_file];
}

/** What is known of other pages, whose folder somebody has typed: what an address says is not loaded. */
async function otherPages(folder) {
  const data = `${folder}/${FOLDER}`;
  const [index, tokens, labels] = await Promise.all([load("index", data), load("tokens", data), load("labels", data)]);
  if (index.version !== INDEX.version) throw new Error(`${data}index.js: expected version ${INDEX.version}, got ${index.version}`);
  tokens.ids.forEach((id, at) => {
    const [own, other] = [TOKENS.get(id) ?? null, tokens.texts[at]];
    if (own !== null && other !== null && String(own) !== String(other)) throw new Error(`${data}tokens.js: expected the texts of the same tokenizer, got another one for token ${id}`);
    if (own === null) TOKENS.set(id, other);
  });
  for (const id of tokens.special) SPECIAL.add(id);
  return { index, labels };
}

/** The features with a word in their top contexts that begins so. */
async function withWord(start) {
  const firsts = INDEX.words;
  const found = new Set();
  // The last file whose first word is not after `start`, and those that begin with it.
  let at = Math.max(0, firsts.findIndex((first) => first > start) - 1);
  if (firsts.length > 0 && firsts[firsts.length - 1] <= start) at = firsts.length - 1;
  for (; at < firsts.length && (firsts[at] <= start || firsts[at].startsWith(start)); at += 1) {
    for (const [word, features] of await load(`words/${at}`)) {
      if (word.startsWith(start)) for (const number of features) found.add(number);
    }
  }
  return found;
}
