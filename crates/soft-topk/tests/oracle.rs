//! A slow and plain soft top-k in `f64`: bisection, and the definition of the weights.

/// p and θ of one row; θ to the last bit that bisection can tell, from `pivot` + offset·alpha.
pub(crate) fn weights(x: &[f64], k: f64, alpha: f64) -> Vec<f64> {
    // Offsets from an entry near the threshold, so that alpha may be far below an ulp of x.
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let pivot = sorted[(k.ceil() as usize).clamp(1, x.len()) - 1];
    let z: Vec<f64> = x.iter().map(|x| (x - pivot) / alpha).collect();
    let sum = |offset: f64| z.iter().map(|z| distribution(z - offset)).sum::<f64>();
    let (mut low, mut high) = (-1.0, 1.0);
    while sum(low) < k {
        low *= 2.0;
    }
    while sum(high) > k {
        high *= 2.0;
    }
    let mut offset = 0.5 * (low + high);
    while low < offset && offset < high {
        if sum(offset) > k {
            low = offset
        } else {
            high = offset
        }
        offset = 0.5 * (low + high);
    }
    z.iter().map(|z| distribution(z - offset)).collect()
}

/// F(z).
fn distribution(z: f64) -> f64 {
    if z <= 0.0 { 0.5 * z.exp() } else { 1.0 - 0.5 * (-z).exp() }
}
