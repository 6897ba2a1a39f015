//! Which rows get how many features, against direct computations.

use std::path::Path;
use std::sync::Arc;

use sae_config::{Spent, SpentText, TokenText};
use sae_data::{ActivationStore, Dtype, RowMeta, StoreSpec, StoreWriter, open_store};
use sae_eval::{EvaluateOptions, ProfileObserver, observe};
use sae_models::{InitRng, Sae};
use tch::{Kind, Tensor};

use crate::models::{linear, soft};

const D: usize = 6;
const N_ROWS: usize = 450;

/// Three texts in contexts of 50.
fn places() -> Vec<RowMeta> {
    let place =
        |at: u32| RowMeta { token_id: 1 + (at * at) % 23, document: at / 150, position: at % 50 };
    (0..N_ROWS as u32).map(place).collect()
}

fn store(dir: &Path, with_places: bool) -> Arc<dyn ActivationStore> {
    let mut spec = StoreSpec::new(D, Dtype::F32);
    spec.row_metadata = with_places;
    let x = InitRng::new(3).uniform(&[N_ROWS as i64, D as i64], 2.0) + 0.3;
    let mut values: Vec<f32> = x.flatten(0, -1).to_kind(Kind::Float).try_into().unwrap();
    values[30 * D..31 * D].fill(0.0);
    let mut writer = StoreWriter::create(dir, spec).unwrap();
    writer.append(&values, &places()).unwrap();
    writer.finish().unwrap();
    open_store(dir).unwrap()
}

/// L0, k̂, ‖x − x̂‖² and ‖x‖² of each row.
fn direct(sae: &Sae, store: &dyn ActivationStore) -> Vec<[f64; 4]> {
    let mut values = vec![0.0; N_ROWS * D];
    store.read_rows(0, &mut values).unwrap();
    let x = Tensor::from_slice(&values).view([N_ROWS as i64, D as i64]).to_device(sae.device());
    let encoded = sae.encode(&x).unwrap();
    let list = |of: Tensor| -> Vec<f64> { of.to_kind(Kind::Double).try_into().unwrap() };
    let sum = |of: Tensor| list(of.square().sum_dim_intlist(1i64, false, Kind::Double));
    let l0 = list(encoded.features.ne(0.0).sum_dim_intlist(1i64, false, Kind::Double));
    let k_hat = encoded.k_hat.as_ref().map_or(vec![0.0; N_ROWS], |k| list(k.shallow_clone()));
    let errors = sum(&x - sae.decode(&encoded).unwrap());
    let squares = sum(x);
    (0..N_ROWS).map(|row| [l0[row], k_hat[row], errors[row], squares[row]]).collect()
}

fn check(found: &Spent, rows: &[[f64; 4]], has_k_hat: bool) {
    let sum = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>();
    let n = rows.len() as f64;
    assert_eq!(found.n as usize, rows.len());
    assert!((found.l0 - sum(0) / n).abs() < 1e-9);
    assert_eq!(found.k_hat.is_some(), has_k_hat);
    assert!(found.k_hat.is_none_or(|k_hat| (k_hat - sum(1) / n).abs() < 1e-3));
    let error = sum(2) / sum(3);
    assert!((found.error.unwrap() - error).abs() < 1e-4 * error.max(1e-2), "{found:?} {error}");
}

/// What a token stands for: the first for nothing, the second for a part of a character.
fn piece(id: u32) -> Option<Vec<u8>> {
    match id {
        1 => None,
        2 => Some(vec![0xe2, 0x80]),
        id => Some(format!(" w{id}").into_bytes()),
    }
}

/// Checks that a text is one of the stretches of 48 rows, with the values of its rows.
fn check_text(text: &SpentText, mean: f64, values: &[f64]) {
    assert!((text.mean - mean).abs() < 1e-3);
    let places = places();
    let is_it = |first: usize| {
        let mut all = text.tokens.iter().zip(&text.values).zip(first..);
        text.tokens.len() == 48
            && all.all(|((token, value), at)| {
                let bytes = piece(places[at].token_id);
                *token == bytes.map(|bytes| TokenText::from(&*bytes))
                    && (f64::from(*value) - values[at]).abs() < 1e-3
            })
    };
    let mut starts = (0..9).map(|at| 50 * at).filter(|at| {
        (places[*at].document, places[*at].position) == (text.document, text.position)
    });
    assert!(starts.any(is_it), "{text:?}");
}

#[test]
fn groups_are_those_of_a_direct_computation() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), true);
    let places = places();
    for (sae, has_k_hat) in [(soft(D, 24, 1), true), (linear(D, 2.0, 0.1), false)] {
        let mut observer = ProfileObserver::default();
        let options = EvaluateOptions { batch_size: 64 };
        observe(&sae, &*store, options, &mut [&mut observer], &mut |_, _| {}).unwrap();
        let found = observer.finish(&*store, Some(&piece)).unwrap();
        let rows = direct(&sae, &*store);
        let of = |is_in: &dyn Fn(&RowMeta) -> bool| -> Vec<[f64; 4]> {
            let places = places.iter().zip(&rows);
            places.filter(|(place, _)| is_in(place)).map(|(_, row)| *row).collect()
        };
        let bounds: Vec<_> = found.by_position.iter().map(|of| (of.from, of.to)).collect();
        let expected = [(0., 0.), (1., 1.), (2., 3.), (4., 7.), (8., 15.), (16., 31.), (32., 63.)];
        assert_eq!(bounds, expected);
        for group in &found.by_position {
            let range = group.from as u32..=group.to as u32;
            check(group, &of(&|place| range.contains(&place.position)), has_k_hat);
        }
        assert_eq!(found.by_document.len(), 3);
        for group in &found.by_document {
            check(group, &of(&|place| f64::from(place.document) == group.from), has_k_hat);
        }
        let count = |id: u32| places.iter().filter(|place| place.token_id == id).count();
        for group in &found.by_frequency {
            let range = group.from as usize..=group.to as usize;
            check(group, &of(&|place| range.contains(&count(place.token_id))), has_k_hat);
        }
        let n: u64 = found.by_frequency.iter().map(|group| group.n).sum();
        assert_eq!(n as usize, N_ROWS);
        let mut sorted = rows.clone();
        sorted.retain(|row| row[3] > 0.0);
        sorted.sort_by(|a, b| (a[2] / a[3]).total_cmp(&(b[2] / b[3])));
        assert_eq!(found.by_error.len(), 10);
        for (number, group) in found.by_error.iter().enumerate() {
            let n = sorted.len();
            check(group, &sorted[n * number / 10..n * (number + 1) / 10], has_k_hat);
        }

        // Nine stretches of 48 rows, one in each context.
        let own = |row: &[f64; 4]| if has_k_hat { row[1] } else { row[0] };
        let mean = |at: usize| rows[50 * at..50 * at + 48].iter().map(own).sum::<f64>() / 48.0;
        let mut means: Vec<f64> = (0..9).map(mean).collect();
        means.sort_by(f64::total_cmp);
        if means[0] < means[8] {
            let values: Vec<f64> = rows.iter().map(own).collect();
            let fewest: Vec<f64> = means[..3].to_vec();
            let most: Vec<f64> = means[6..].iter().rev().copied().collect();
            for (texts, means) in [(&found.fewest, fewest), (&found.most, most)] {
                assert_eq!(texts.len(), 3);
                texts.iter().zip(means).for_each(|(text, mean)| check_text(text, mean, &values));
            }
        }
    }
}

#[test]
fn a_store_without_places_has_errors_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), false);
    let sae = soft(D, 24, 1);
    let mut observer = ProfileObserver::default();
    let options = EvaluateOptions::default();
    observe(&sae, &*store, options, &mut [&mut observer], &mut |_, _| {}).unwrap();
    let found = observer.finish(&*store, Some(&|_| Some(vec![b'a']))).unwrap();
    assert_eq!(found.by_error.len(), 10);
    assert!(found.by_position.is_empty() && found.by_document.is_empty());
    assert!(found.by_frequency.is_empty() && found.most.is_empty());
}
