//! What each key of a run file has to do with the result of the run.

/// What a key of a run file has to do with the result of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its value shapes the result.
    Shapes,
    /// It names a file or folder, whose content shapes the result.
    Place,
    /// It says where the run computes, which shapes the result by rounding at most.
    Device,
    /// It says what is written, and how often.
    Bookkeeping,
}

/// The keys that do not shape results by their values; an index is written `[]`.
pub(crate) const ROLES: [(&str, Role); 11] = [
    ("data.store", Role::Place),
    ("data.target", Role::Place),
    ("data.stores[].path", Role::Place),
    ("data.rows", Role::Place),
    ("data.host", Role::Place),
    ("data.corpus.path", Role::Place),
    ("training.init", Role::Place),
    ("training.device", Role::Device),
    ("training.log_every", Role::Bookkeeping),
    ("training.checkpoint_every", Role::Bookkeeping),
    ("training.keep_checkpoints", Role::Bookkeeping),
];

impl Role {
    /// The role of a dotted key, such as `training.lr` or `data.stores[1].path`.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let is_it = |name: &str| match key.split_once('[') {
            None => name == key,
            Some((head, rest)) => {
                let rest = rest.split_once(']').map_or(rest, |(_, rest)| rest);
                name.split_once("[]") == Some((head, rest))
            }
        };
        ROLES.iter().find(|(name, _)| is_it(name)).map_or(Self::Shapes, |(_, role)| *role)
    }
}
