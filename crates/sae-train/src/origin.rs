//! What a port gives, as a model trained on it records it.

use sae_data::{Port, Provenance};
use sae_models::TrainedOn;

use crate::{Error, Result};

/// The host, the hook point and the way of harvesting of the activations of a port, as far as they
/// are known; their hash is left out.
///
/// # Errors
/// [`Error::MixedStores`] for activations of several hosts or hook points.
pub fn origin(port: &Port) -> Result<TrainedOn> {
    let parts: Vec<TrainedOn> = port.provenances.iter().map(origin_of).collect();
    let mut whole = parts.first().cloned().unwrap_or_default();
    for part in &parts {
        if let Some(difference) = whole.elsewhere(part).into_iter().next() {
            let (store, what) = (port.place.clone(), difference.what);
            let (first, other) = (difference.trained_on, difference.got);
            return Err(Error::MixedStores { store, what, first, other });
        }
        fill(&mut whole.host, &part.host);
        fill(&mut whole.host_hash, &part.host_hash);
        fill(&mut whole.hook_point, &part.hook_point);
        list(&mut whole.bos, &part.bos);
        list(&mut whole.special_tokens, &part.special_tokens);
        list(&mut whole.context_length, &part.context_length);
    }
    whole.dtype = Some(port.dtype.to_string());
    Ok(whole)
}

/// What a provenance says of where a model belongs.
#[must_use]
pub fn origin_of(provenance: &Provenance) -> TrainedOn {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let setting = |key: &str| provenance.settings.get(key).cloned();
    TrainedOn {
        host: known(&provenance.host),
        host_hash: provenance.host_hash.clone(),
        hook_point: known(&provenance.hook_point),
        bos: setting("bos"),
        special_tokens: setting("special_tokens"),
        context_length: setting("context_length"),
        ..TrainedOn::default()
    }
}

/// Adds what another part says, where nothing was known.
fn fill(whole: &mut Option<String>, part: &Option<String>) {
    if whole.is_none() {
        whole.clone_from(part);
    }
}

/// Adds what another part says: all that differs is listed.
fn list(whole: &mut Option<String>, part: &Option<String>) {
    match (&mut *whole, part) {
        (Some(known), Some(other)) if !known.split(" and ").any(|one| one == other) => {
            *known = format!("{known} and {other}");
        }
        _ => fill(whole, part),
    }
}
