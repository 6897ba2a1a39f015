//! Where a model belongs: the host, the hook point and the data that it was trained on.

use serde::{Deserialize, Serialize};

/// What a model was trained on, or what an activation store holds; each part where it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainedOn {
    /// Name of the host model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Hash of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_hash: Option<String>,
    /// The hook point, as in `resid_post.15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_point: Option<String>,
    /// Element type of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// Whether contexts began with a BOS token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<String>,
    /// Whether rows of special tokens were stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special_tokens: Option<String>,
    /// Tokens a context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<String>,
    /// Hash of the activations, filters included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_hash: Option<String>,
    /// Hash of the checkpoint that training started from, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Of a transcoder, where the activations that it rebuilds belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<Self>>,
}

/// A part in which two origins differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginDifference {
    /// Its name.
    pub what: &'static str,
    /// What the model was trained on.
    pub trained_on: String,
    /// What came instead.
    pub got: String,
}

impl std::fmt::Display for OriginDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, trained_on, got } = self;
        write!(f, "{what}: expected {trained_on}, got {got}")
    }
}

impl TrainedOn {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Where `other` is of another host or hook point: a model means nothing there.
    ///
    /// Hosts are compared by their hash where both are known, else by name: names of one model, such
    /// as `google/gemma-2-2b` and `gemma-2-2b.gguf`, hold one another. What is not known of either
    /// differs in nothing.
    #[must_use]
    pub fn elsewhere(&self, other: &Self) -> Vec<OriginDifference> {
        let host = match (&self.host_hash, &other.host_hash) {
            (Some(ours), Some(theirs)) if ours == theirs => None,
            (Some(ours), Some(theirs)) => Some(OriginDifference {
                what: "host",
                trained_on: named(self.host.as_deref(), ours),
                got: named(other.host.as_deref(), theirs),
            }),
            _ => difference("host", &self.host, &other.host)
                .filter(|found| !may_be_one(&found.trained_on, &found.got)),
        };
        let hook_point = difference("hook point", &self.hook_point, &other.hook_point);
        host.into_iter().chain(hook_point).collect()
    }

    /// Where the rows of `other` were made in another way at the same place: numbers compare, but
    /// not quite.
    #[must_use]
    pub fn made_otherwise(&self, other: &Self) -> Vec<OriginDifference> {
        let all = [
            difference("element type", &self.dtype, &other.dtype),
            difference("bos", &self.bos, &other.bos),
            difference("special tokens", &self.special_tokens, &other.special_tokens),
            difference("context length", &self.context_length, &other.context_length),
        ];
        all.into_iter().flatten().collect()
    }
}

/// Whether two names may be those of one model: the letters and digits of one's last part hold those
/// of the other's.
fn may_be_one(a: &str, b: &str) -> bool {
    let plain = |name: &str| -> String {
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        last.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
    };
    let (a, b) = (plain(a), plain(b));
    a.contains(&b) || b.contains(&a)
}

/// A name with the start of its hash, which tells namesakes apart.
fn named(name: Option<&str>, hash: &str) -> String {
    let hash: String = hash.chars().take(12).collect();
    format!("{} ({hash})", name.unwrap_or("a host"))
}

fn difference(
    what: &'static str,
    ours: &Option<String>,
    theirs: &Option<String>,
) -> Option<OriginDifference> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            Some(OriginDifference { what, trained_on: ours.clone(), got: theirs.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::TrainedOn;

    fn origin(text: &str) -> TrainedOn {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn hosts_are_compared_by_hash_then_by_name() {
        let model = origin("host = 'a'\nhost_hash = '11'\nhook_point = 'resid_post.15'");
        let n = |text: &str| model.elsewhere(&origin(text)).len();
        assert_eq!(n(""), 0);
        assert_eq!(n("host = 'b'\nhost_hash = '11'"), 0, "the same weights under another name");
        assert_eq!(n("host = 'a'\nhost_hash = '22'"), 1, "a namesake");
        assert_eq!(n("host = 'a'"), 0);
        assert_eq!(n("host = 'b'"), 1);
        assert_eq!(n("host = 'b/A.gguf'"), 0);
        assert_eq!(n("host = 'b'\nhook_point = 'resid_post.7'"), 2);
        assert_eq!(TrainedOn::default().elsewhere(&model), []);
        let said = model.elsewhere(&origin("hook_point = 'resid_post.7'"))[0].to_string();
        let expected = "hook point: expected resid_post.15, got resid_post.7";
        assert_eq!(said, expected);
    }

    #[test]
    fn every_other_part_is_said_to_differ() {
        let model =
            origin("dtype = 'f16'\nbos = 'true'\nspecial_tokens = 'x'\ncontext_length = '9'");
        for part in ["dtype", "bos", "special_tokens", "context_length"] {
            let other = origin(&format!("{part} = 'another'"));
            assert_eq!(model.made_otherwise(&other).len(), 1, "{part}");
            assert_eq!(model.elsewhere(&other), []);
        }
        assert_eq!(model.made_otherwise(&model), []);
    }
}
