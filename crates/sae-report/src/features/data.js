// The data: scripts beside the page, loaded when they are needed.

const FOLDER = "features-data/";
// Files of features kept in memory.
const MOST_FILES = 24;

const loaded = new Map();

/** What every file of data calls. */
function softsae(name, value) {
  loaded.set(name, value);
}

/** The value of a name, from its file. */
function load(name) {
  if (loaded.has(name)) return Promise.resolve(loaded.get(name));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const fail = () => reject(new Error(`${FOLDER}${name}.js cannot be read; the page needs this folder beside it`));
    script.onload = () => {
      script.remove();
      if (loaded.has(name)) resolve(loaded.get(name));
      else fail();
    };
    script.onerror = fail;
    script.src = `${FOLDER}${name}.js`;
    document.head.append(script);
  });
}

let INDEX = null;
let SET = null;
let COLUMNS = null;

/** A feature, whose number must be there. */
async function feature(number) {
  const file = Math.floor(number / INDEX.features_per_file);
  const name = `features/${file}`;
  const records = await load(name);
  // The files used last are the last of the map.
  loaded.delete(name);
  loaded.set(name, records);
  const files = [...loaded.keys()].filter((key) => key.startsWith("features/"));
  for (const old of files.slice(0, Math.max(0, files.length - MOST_FILES))) loaded.delete(old);
  return records[number - file * INDEX.features_per_file];
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
