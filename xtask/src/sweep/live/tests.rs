//! What stands for a live host and its corpus.

use std::fs;

use super::*;
use crate::workspace::Workspace;

/// The ids by hook point of a sweep in this folder.
fn data(folder: &Path, held_out: &str, corpus: &str) -> Result<Ids> {
    let text = format!(
        "held_out = {{ {held_out} }}\n[axes]\nhook = ['embed', 'mlp_in.1']\n[base]\n\
         sae.n_features = 8\narchitecture = {{ name = 'topk', k = 2 }}\n\
         training = {{ steps = 1, batch_size = 4 }}\n\
         data = {{ host = '{folder}/host', hook = 'embed', context_length = 8, \
         corpus = {{ {corpus} }} }}\n",
        folder = folder.display()
    );
    let sweep: SweepConfig = toml::from_str(&text).unwrap();
    let points = sweep.points().unwrap();
    let hooks: BTreeSet<_> = points.iter().map(|point| sweep.hook_of(&point.config)).collect();
    let live = points[0].config.data.live.as_ref().unwrap();
    let contents = Contents::new(&Workspace::at(folder));
    LiveSource::new(&sweep, live, &hooks, &contents).map(|(_, data)| data)
}

#[test]
fn hosts_and_corpora_are_known_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [("host", "weights"), ("texts/a.txt", "one"), ("b.txt", "two")] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), text).unwrap();
    }
    let corpus = |path: &str, more: &str| {
        format!("path = {:?}, split = 'train'{more}", at(path).display().to_string())
    };
    let of = |held_out: &str, corpus: &str| data(folder.path(), held_out, corpus).unwrap();
    let before = of("", &corpus("texts", ""));
    assert_eq!(before.keys().collect::<Vec<_>>(), ["embed", "mlp_in.1"]);
    assert_ne!(before["embed"], before["mlp_in.1"]);
    assert_eq!(of("max_tokens = 100000", &corpus("texts", "")), before);
    assert_ne!(of("max_tokens = 9", &corpus("texts", "")), before);
    assert_ne!(of("", &corpus("texts", ", held_out = 0.5")), before);
    let text = format!("texts = [{:?}]", at("b.txt"));
    assert_ne!(of(&text, &corpus("texts", "")), before);
    fs::rename(at("texts"), at("moved")).unwrap();
    assert_eq!(of("", &corpus("moved", "")), before);
    fs::write(at("moved/a.txt"), "eno").unwrap();
    assert_ne!(of("", &corpus("moved", "")), before);
    let error = data(folder.path(), "", "path = 'hf:a/b@main', split = 'train'");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("base.data.corpus.path: expected a commit"), "{error}");
    let commit = format!("path = 'hf:a/b@{}', split = 'train'", "0a".repeat(20));
    assert!(data(folder.path(), "", &commit).is_ok());
}

#[test]
fn a_corpus_is_given_to_harvest_in_full() {
    let corpus: CorpusConfig = toml::from_str(
        "path = ['a', 'b']\nfiles = '*.jsonl'\nformat = 'jsonl'\nfield = 'x.y'\n\
         packing = 'packed'\nseparator = 'eos'\nshuffle = { seed = 3, window = 7 }\n\
         split = 'train'\nheld_out = 0.25\ndamaged = 'skip'\nmax_document_tokens = 9\n\
         max_tokens = 11\nchat = { roles = ['user', 'tool'], date = '2025-01-31' }",
    )
    .unwrap();
    let mut command = Command::new("softsae");
    corpus_arguments(&mut command, &corpus);
    let line = crate::sweep::child::line(&command);
    let expected = "softsae --corpus a --corpus b '--files=*.jsonl' --format=jsonl --field=x.y \
         --shuffle=3 --window=7 --held-out=0.25 --max-tokens=9 --roles=user,tool \
         --date=2025-01-31 --chat --packed --separator eos --skip-damaged";
    assert_eq!(line, expected);
}
