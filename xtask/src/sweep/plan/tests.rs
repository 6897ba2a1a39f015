//! What a plan makes of sweep files.

use super::super::source::Planted;
use super::*;

const SWEEP: &str = r#"
    [host]
    name = "smollm2-135m"
    [harvest]
    hook = "resid_post.15"
    [texts]
    train = ["a.txt"]
    held_out = ["b.txt"]
    [base.sae]
    n_features = 64
    [base.training]
    steps = 100
    batch_size = 8
    [axes]
    architecture = ["topk", "soft"]
    k = [4, 8]
"#;

fn load(folder: &Path, filters: &[&str]) -> Result<Plan> {
    let file = folder.join("sweep.toml");
    let filters: Vec<_> = filters.iter().map(|f| (*f).to_owned()).collect();
    Plan::load(&Workspace::find(), file.to_str().unwrap(), &filters, &[])
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("sweep.toml", SWEEP), ("a.txt", "one"), ("b.txt", "two")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.selected().map(|run| run.id.clone()).collect()
}

#[test]
fn ids_depend_on_the_texts_but_not_on_their_place() {
    let (here, there) = (folder(), folder());
    let before = ids(&load(here.path(), &[]).unwrap());
    assert_eq!(before, ids(&load(there.path(), &[]).unwrap()));
    std::fs::write(there.path().join("b.txt"), "three").unwrap();
    let after = ids(&load(there.path(), &[]).unwrap());
    assert!(before.iter().all(|id| !after.contains(id)));
}

#[test]
fn missing_inputs_are_named() {
    let folder = folder();
    std::fs::remove_file(folder.path().join("b.txt")).unwrap();
    let error = crate::exit::message(&load(folder.path(), &[]).err().unwrap());
    assert!(error.contains("texts.held_out") && error.contains("b.txt"), "{error}");
    let none = Plan::load(&Workspace::find(), "no-such-sweep", &[], &[]).err().unwrap().to_string();
    assert!(none.contains("quickstart") && none.contains("no-such-sweep"), "{none}");
}

#[test]
fn planted_rows_follow_one_another_and_decide_the_ids() {
    let folder = folder();
    let runs = SWEEP.split("[base.sae]").nth(1).unwrap();
    let plan = |k_max: u64| {
        let source = format!("train_rows = 90\nheld_out_rows = 10\ndata.k_max = {k_max}");
        let text = format!("[planted]\n{source}\n[base.sae]{runs}");
        std::fs::write(folder.path().join("sweep.toml"), text).unwrap();
        load(folder.path(), &[]).unwrap()
    };
    let six = plan(6);
    let Source::Planted { train, held_out } = &six.source else { panic!("not planted") };
    let integer = |planted: &Planted, key| planted.settings["planted"][key].as_integer();
    assert_eq!((integer(train, "first_row"), integer(train, "n_rows")), (Some(0), Some(90)));
    assert_eq!((integer(held_out, "first_row"), integer(held_out, "n_rows")), (Some(90), Some(10)));
    assert_eq!(integer(held_out, "k_max"), Some(6));
    assert_eq!(ids(&six), ids(&plan(6)));
    assert_ne!(ids(&six), ids(&plan(7)));
}

#[test]
fn the_bundled_sweeps_are_valid() {
    let workspace = Workspace::find();
    for entry in std::fs::read_dir(workspace.sweeps()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            Plan::load(&workspace, path.to_str().unwrap(), &[], &[]).unwrap();
        }
    }
}
