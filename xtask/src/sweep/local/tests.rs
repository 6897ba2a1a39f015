//! Which runs start when.

use sae_config::SweepPoint;

use super::*;

fn planned(id: &str, steps: u64) -> PlannedRun {
    let text = format!(
        "data.store = 'none'\nsae.n_features = 32\narchitecture = {{ name = 'topk', k = 2 }}\n\
         training = {{ steps = {steps}, batch_size = 8 }}"
    );
    let config = toml::from_str(&text).unwrap();
    let point = SweepPoint { variant: None, settings: Vec::new(), config };
    PlannedRun { id: id.into(), point, is_selected: true }
}

fn waiting(run: &PlannedRun, need: u64) -> Waiting<'_> {
    Waiting {
        runs: vec![run],
        needs: BTreeMap::from([("cpu".into(), need), ("cuda:0".into(), need)]),
    }
}

#[test]
fn the_first_run_that_fits_beside_the_others_starts() {
    let (large, middle, small) = (planned("large", 9), planned("middle", 8), planned("small", 7));
    let waiting = vec![waiting(&large, 80), waiting(&middle, 60), waiting(&small, 30)];
    let mut state = State { waiting, at_work: BTreeMap::new() };
    let take = |state: &mut State<'_>, device: &str, free| {
        state.take(device, Some(free)).map(|runs| runs[0].id.clone())
    };
    // Alone, a run starts whatever is free; beside it, only what leaves room for its growth.
    assert_eq!(take(&mut state, "cpu", 100).as_deref(), Some("large"));
    assert_eq!(take(&mut state, "cpu", 109), None);
    assert_eq!(take(&mut state, "cpu", 110).as_deref(), Some("small"));
    // Another device has memory of its own.
    assert_eq!(take(&mut state, "cuda:0", 60).as_deref(), Some("middle"));
    assert_eq!(take(&mut state, "cpu", 1000), None);
}

#[test]
fn longer_runs_are_more_work_and_too_large_ones_are_named() {
    let (long, short) = (planned("long", 9), planned("short", 8));
    assert!(work_of(&&long) > work_of(&&short));
    let runs = [waiting(&long, 50), waiting(&short, 90)];
    let free =
        |cpu: u64, gpu: u64| BTreeMap::from([("cpu".to_owned(), cpu), ("cuda:0".to_owned(), gpu)]);
    refuse_too_large(&runs, &free(10, 90)).unwrap();
    refuse_too_large(&runs, &BTreeMap::new()).unwrap();
    let message = refuse_too_large(&runs, &free(89, 10)).unwrap_err().to_string();
    assert!(message.contains("run short") && !message.contains("runs like it"), "{message}");
    let message = refuse_too_large(&runs, &free(10, 10)).unwrap_err().to_string();
    assert!(message.contains("run long") && message.contains("and 1 runs like it"), "{message}");
}
