//! Hard selections: how many they choose, and that nothing left out is larger.

use proptest::prelude::*;
use sae_config::Kept;
use sae_kernels::{Matrix, Selector};
use sae_models::{
    InitRng, Largest, SparseCodes, top_k_of_batch_mask, top_k_of_rows_mask, top_k_rows_mask,
};
use tch::{Device, Kind, Tensor};
use tch_autograd::{test_device, view};

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten(0, -1).to_kind(Kind::Double).try_into().unwrap()
}

/// `k` ones, the rest zeros, and no entry left out exceeds one that is chosen.
fn is_top(z: &[f64], mask: &[f64], k: i64) -> bool {
    let pick = |wanted: f64| {
        z.iter().zip(mask).filter(move |(_, m)| **m == wanted).map(|(z, _)| *z).collect::<Vec<_>>()
    };
    let (chosen, left) = (pick(1.0), pick(0.0));
    let least = chosen.iter().copied().fold(f64::INFINITY, f64::min);
    let most = left.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    chosen.len() as i64 == k && chosen.len() + left.len() == z.len() && least >= most
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn masks_choose_the_largest(seed in 0u64..1 << 40, batch in 1i64..6, n in 1i64..30) {
        // Few distinct values, so that ties are common.
        let z = (InitRng::new(seed).uniform(&[batch, n], 3.0).round() / 2.0).to_kind(Kind::Float);
        let z = z.to_device(test_device());
        let budget = |i: i64, most: i64| (seed as i64 >> i) % (most + 1);
        let rows = z.split(1, 0);

        let k = budget(0, n);
        let mask = top_k_rows_mask(&z, k);
        for (row, mask) in rows.iter().zip(mask.split(1, 0)) {
            prop_assert!(is_top(&values(row), &values(&mask), k));
        }

        let ks: Vec<i64> = (0..batch).map(|b| budget(b + 1, n)).collect();
        let mask = top_k_of_rows_mask(&z, &Tensor::from_slice(&ks).to_device(z.device()));
        for ((row, mask), k) in rows.iter().zip(mask.split(1, 0)).zip(&ks) {
            prop_assert!(is_top(&values(row), &values(&mask), *k));
        }

        let k = budget(9, batch * n);
        prop_assert!(is_top(&values(&z), &values(&top_k_of_batch_mask(&z, k)), k));
    }

    #[test]
    fn backends_select_the_same(seed in 0u64..1 << 40, batch in 1i64..6, n in 1i64..30) {
        // Magnitudes that differ by 1 or more, and biases that do not change their order.
        let draws = InitRng::new(seed).uniform(&[batch * n], 1.0);
        let ranks = draws.argsort(0, false).argsort(0, false) + 1;
        let z = (ranks * draws.sign()).to_kind(Kind::Float).reshape([batch, n]);
        let bias = Tensor::arange(n, (Kind::Float, Device::Cpu)) / 1024;
        let budget = |i: i64| (seed as i64 >> i) % (n + 1);
        let ks: Vec<i64> = (0..batch).map(budget).collect();
        let k = &Tensor::from_slice(&ks);
        for largest in [
            Largest::new(Kept::OfRows, budget(0), batch),
            Largest::new(Kept::MagnitudesOfRows, budget(1), batch),
            Largest::new(Kept::OfBatch, budget(2), batch),
            Largest::OfEachRow { k, most: n },
        ] {
            let activations = largest.activations(&(&z + &bias));
            let dense = largest.features(&activations);
            let decoded = largest.codes(&activations).decode(&Tensor::eye(n, (Kind::Float, Device::Cpu)));
            prop_assert_eq!(&decoded, &dense, "{:?}", largest);

            let mut codes = SparseCodes::new(n as usize);
            let (elements, biases) = (view::<f32>(&z).unwrap(), view::<f32>(&bias).unwrap());
            let products = Matrix::new("z", &elements, n as usize).unwrap();
            largest.select(products, &biases, &mut Selector::new(), &mut codes).unwrap();
            let mut by_kernels = vec![0.0f32; (batch * n) as usize];
            codes.write_dense(&mut by_kernels).unwrap();
            prop_assert_eq!(Tensor::from_slice(&by_kernels).reshape([batch, n]), dense, "{:?}", largest);
        }
    }
}
