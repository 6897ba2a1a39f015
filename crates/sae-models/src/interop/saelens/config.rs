//! What SAELens' settings say: version, architecture, known keys, and what a user has to know.

use serde_json::Value;

use super::super::settings::Settings;
use super::keys;
use crate::Result;

/// The highest version whose files are read.
const MAJOR: u32 = 6;

/// Architectures that are refused, and what they are.
const OTHERS: [(&str, &str); 8] = [
    ("transcoder", TRANSCODER),
    ("skip_transcoder", TRANSCODER),
    ("jumprelu_transcoder", TRANSCODER),
    ("jumprelu_skip_transcoder", TRANSCODER),
    ("abstopk", ", which keeps the largest values of either sign"),
    ("matching_pursuit", ", which encodes by iteration"),
    ("temporal", ", which reads other positions of a text"),
    ("crosscoder", ", which reads several layers"),
];
const TRANSCODER: &str = ", whose output is not its input";

/// Element types; all are read as f32.
const DTYPES: [&str; 4] = ["float32", "float64", "float16", "bfloat16"];

/// Whether the loader takes the file for one of before version 6.
pub(super) fn is_legacy(settings: &Settings, metadata: &Settings) -> Result<bool> {
    let at_top = settings.text_or_none("sae_lens_version")?;
    let holder = if at_top.is_some() { settings } else { metadata };
    let Some(version) = holder.text_or_none("sae_lens_version")? else { return Ok(true) };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major <= MAJOR => Ok(major < MAJOR),
        _ => Err(holder.wrong("sae_lens_version", &format!("at most version {MAJOR}"), version)),
    }
}

/// The architecture that a file names, by SAELens' name.
pub(super) fn architecture_name(settings: &Settings, is_legacy: bool) -> Result<&str> {
    const KNOWN: [&str; 7] =
        ["standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "softsae"];
    let name = match settings.text_or_none("architecture")? {
        None if is_legacy => "standard",
        _ => settings.text("architecture")?,
    };
    if !KNOWN.contains(&name) {
        let known = "`standard`, `topk`, `batchtopk`, `matryoshka_batchtopk`, `jumprelu`, \
                     `gated`, or a `softsae` of ours";
        let what = OTHERS.iter().find(|(other, _)| *other == name).map_or("", |(_, what)| what);
        return Err(settings.wrong("architecture", known, format!("{name}{what}")));
    }
    if !is_legacy {
        return Ok(name);
    }
    // Files of old versions tell TopK by its activation function.
    let mut is_top_k = false;
    for key in ["activation_fn", "activation_fn_str"] {
        match settings.text_or_none(key)? {
            None | Some("relu") => {}
            Some("topk") if matches!(name, "standard" | "topk") => is_top_k = true,
            Some(other) => {
                return Err(settings.wrong(key, "`relu`, or `topk` of a standard SAE", other));
            }
        }
    }
    let empty = matches!(settings.value("activation_fn_kwargs"), Value::Null)
        || settings.inner("activation_fn_kwargs")?.map.keys().all(|key| is_top_k && key == "k");
    if !empty {
        let expected = "`k` of `topk` alone";
        let got = settings.value("activation_fn_kwargs");
        return Err(settings.wrong("activation_fn_kwargs", expected, got));
    }
    Ok(if is_top_k { "topk" } else { name })
}

pub(super) fn check_keys(
    settings: &Settings,
    metadata: &Settings,
    details: &Settings,
    name: &str,
    is_legacy: bool,
) -> Result<()> {
    let own = match name {
        "topk" | "batchtopk" | "matryoshka_batchtopk" => &keys::TOP_K,
        "softsae" => &keys::SOFT,
        _ => &keys::NOT_TOP_K,
    };
    if is_legacy {
        settings.check(&[&keys::LEGACY, own, &keys::SETTINGS, &keys::METADATA])?;
    } else {
        settings.check(&[own, &keys::SETTINGS])?;
    }
    metadata.check(&[&keys::METADATA])?;
    details.check(&[&keys::DETAILS])
}

/// What a user has to know of the host and of rounding.
pub(super) fn notes(settings: &Settings, about: &Settings) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let dtype = settings.text_or_none("dtype")?.unwrap_or("float32");
    let plain = dtype.trim_start_matches("torch.");
    if !DTYPES.contains(&plain) {
        return Err(settings.wrong("dtype", &DTYPES.join(", "), dtype));
    }
    if plain != "float32" {
        notes.push(format!("SAELens computes in {plain} here; the model is f32"));
    }
    let kwargs = about.inner("model_from_pretrained_kwargs")?;
    if !kwargs.map.is_empty() {
        notes.push(format!(
            "trained on a host that TransformerLens had changed by {}: activations of the \
             unchanged host are not those that it expects",
            Value::Object(kwargs.map)
        ));
    }
    match about.text_or_none("model_class_name")? {
        None | Some("HookedTransformer") => {}
        Some(class) => notes.push(format!("its host was loaded as {class}")),
    }
    if !about.flag("prepend_bos", true)? {
        notes.push("trained on texts without a BOS token".into());
    }
    match settings.text_or_none("reshape_activations")? {
        None | Some("none") => {}
        Some("hook_z") => notes.push("it reads the outputs of attention heads, joined".into()),
        Some(other) => {
            return Err(settings.wrong("reshape_activations", "`none` or `hook_z`", other));
        }
    }
    Ok(notes)
}
