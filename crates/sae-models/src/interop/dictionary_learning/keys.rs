//! Every key of dictionary_learning's `config.json`, and what is done with it.

use super::super::own::OWN_KEY;
use super::super::settings::Keys;

/// Keys of the file itself.
pub(in super::super) const FILE: Keys =
    Keys { read: &["trainer", "buffer"], neutral: &[], ignored: &[] };

const TRAINING: &str = "of the loss, the optimiser or the run";

/// Keys of `trainer`.
pub(in super::super) const TRAINER: Keys = Keys {
    read: &[
        "dict_class",
        "activation_dim",
        "dict_size",
        "k",
        "layer",
        "lm_name",
        "submodule_name",
        OWN_KEY,
    ],
    neutral: &[],
    ignored: &[
        (TRAINING, TRAINING_KEYS),
        ("the weights of a finished run have it", &["norm_factor"]),
        ("the tensor of that name is read", &["group_sizes"]),
    ],
};

/// Keys of `buffer`.
pub(in super::super) const BUFFER: Keys = Keys {
    read: &[],
    neutral: &[
        ("io", &["\"in\"", "\"out\""], "a transcoder, whose output is not its input"),
        ("layer", &[], "an SAE of one attention head"),
    ],
    ignored: &[(
        "of the texts and rows it was trained on",
        &["d_submodule", "n_ctxs", "ctx_len", "refresh_batch_size", "out_batch_size", "device"],
    )],
};

const TRAINING_KEYS: &[&str] = &[
    "anneal_start",
    "auxk_alpha",
    "bandwidth",
    "decay_start",
    "device",
    "group_fractions",
    "group_weights",
    "k_anneal_steps",
    "l1_penalty",
    "lr",
    "n_sparsity_updates",
    "p_end",
    "p_start",
    "resample_steps",
    "seed",
    "sparsity_function",
    "sparsity_penalty",
    "sparsity_queue_length",
    "sparsity_warmup_steps",
    "steps",
    "target_l0",
    "threshold_beta",
    "threshold_start_step",
    "top_k_aux",
    "trainer_class",
    "wandb_name",
    "warmup_steps",
];
