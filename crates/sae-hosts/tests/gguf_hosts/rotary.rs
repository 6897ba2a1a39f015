//! What divides rotary frequencies.

use super::{FAMILIES, golden_host, ids};
use crate::gguf_builder::GgufBuilder;
use crate::support::max_difference;

/// Dividing the frequency of pair i by c^(2i/size) is a base of c times θ.
#[test]
fn rotary_factors_divide_the_frequencies() {
    let good = golden_host("llama");
    let base =
        |value| good.clone().without("llama.rope.freq_base").f32("llama.rope.freq_base", value);
    let expected = base(160_000.0).load().unwrap().logits(&ids()).unwrap();
    let factors = [1.0, 2.0, 4.0, 8.0];
    let host = good.clone().f32_tensor("rope_freqs.weight", &[4], &factors).load().unwrap();
    let logits = host.logits(&ids()).unwrap();
    assert!(max_difference(&logits, &expected) < 1e-5);
    let plain = good.load().unwrap().logits(&ids()).unwrap();
    assert!(max_difference(&logits, &plain) > 1e-3);
}

#[test]
fn linear_scaling_divides_all_frequencies_whatever_the_key() {
    for family in FAMILIES {
        let good = golden_host(family);
        let (factor, old) =
            (format!("{family}.rope.scaling.factor"), format!("{family}.rope.scale_linear"));
        let kind = format!("{family}.rope.scaling.type");
        let logits = |builder: GgufBuilder| builder.load().unwrap().logits(&ids()).unwrap();
        let plain = logits(good.clone());
        let scaled = logits(good.clone().f32(&factor, 4.0));
        assert!(max_difference(&plain, &scaled) > 1e-4, "{family}");
        for same in [
            good.clone().f32(&old, 4.0),
            good.clone().f32(&old, 4.0).f32(&factor, 4.0),
            good.clone().string(&kind, "linear").f32(&factor, 4.0),
        ] {
            assert_eq!(logits(same), scaled, "{family}");
        }
        if family == "llama" {
            let factors = good.clone().f32_tensor("rope_freqs.weight", &[4], &[4.0; 4]);
            assert_eq!(logits(factors), scaled);
        }
        for neutral in [
            good.clone().f32(&factor, 1.0),
            good.clone().f32(&old, 0.0),
            good.clone().string(&kind, "none"),
        ] {
            assert_eq!(logits(neutral), plain, "{family}");
        }
    }
}
