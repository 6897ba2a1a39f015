//! Every key of SAELens' `cfg.json`, of version 6 and before, and what is done with it.

use super::super::own::OWN_KEY;
use super::super::settings::Keys;

const TRAINING: &str = "of the loss, the optimiser, the initial weights or the run";
const DATA: &str = "of the texts and rows it was trained on";
const WHERE: &str = "where tensors were kept";

/// Keys of all architectures in version 6.
pub(in super::super) const SETTINGS: Keys = Keys {
    read: &[
        "architecture",
        "d_in",
        "d_sae",
        "dtype",
        "apply_b_dec_to_input",
        "normalize_activations",
        "reshape_activations",
        "sae_lens_version",
        "metadata",
    ],
    neutral: &[
        ("d_out", &[], "a transcoder"),
        ("finetuning_scaling_factor", &["null", "false"], "a factor without a version before 6"),
        ("activation_fn", &["\"relu\""], "another activation function"),
        ("activation_fn_str", &["\"relu\""], "another activation function"),
        ("activation_fn_kwargs", &["{}", "null"], "another activation function"),
    ],
    ignored: &[(TRAINING, TRAINING_KEYS), (WHERE, &["device"])],
};

/// Keys of top-k and its training saves.
pub(in super::super) const TOP_K: Keys =
    Keys { read: &["k", "rescale_acts_by_decoder_norm"], neutral: &[], ignored: &[] };

/// Keys of the other architectures.
pub(in super::super) const NOT_TOP_K: Keys = Keys {
    read: &[],
    neutral: &[("rescale_acts_by_decoder_norm", &["false"], "features scaled by the decoder")],
    ignored: &[],
};

/// Keys of a SoftSAE of ours.
pub(in super::super) const SOFT: Keys =
    Keys { read: &["d_hidden", "k_min", "k_max", "round_down"], neutral: &[], ignored: &[] };

/// Keys of versions before 6, which have those of `metadata` among the others.
pub(in super::super) const LEGACY: Keys = Keys {
    read: &[
        "hook_point",
        "finetuning_scaling_factor",
        "activation_fn",
        "activation_fn_str",
        "activation_fn_kwargs",
    ],
    neutral: &[("hook_point_head_index", &["null"], ONE_HEAD)],
    ignored: &[
        (TRAINING, LEGACY_TRAINING_KEYS),
        (DATA, LEGACY_DATA_KEYS),
        (WHERE, &["act_store_device"]),
        ("part of the hook's name", &["hook_layer", "hook_point_layer"]),
    ],
};

const ONE_HEAD: &str = "an SAE of one attention head";

/// Keys of `metadata`.
pub(in super::super) const METADATA: Keys = Keys {
    read: &[
        "sae_lens_version",
        "model_name",
        "model_class_name",
        "hook_name",
        "model_from_pretrained_kwargs",
        "prepend_bos",
        "training_architecture",
        "training_architecture_details",
        OWN_KEY,
    ],
    neutral: &[
        ("hook_head_index", &["null"], ONE_HEAD),
        ("hook_name_out", &["null"], "a transcoder"),
        ("hook_head_index_out", &["null"], "a transcoder"),
        ("hf_hook_name_out", &["null"], "a transcoder"),
    ],
    ignored: &[
        (TRAINING, &["sae_lens_training_version"]),
        (
            DATA,
            &[
                "context_size",
                "dataset_path",
                "dataset_trust_remote_code",
                "disable_concat_sequences",
                "exclude_special_tokens",
                "seqpos_slice",
                "sequence_separator_token",
            ],
        ),
        ("measured in training", &["l0", "num_dead_features"]),
        ("other names of the same", &["neuronpedia_id", "hf_hook_name"]),
    ],
};

/// Keys of `metadata.training_architecture_details`: all but k, which inference has in its
/// threshold, are of training; decoder norms are in the weights of an inference save.
pub(in super::super) const DETAILS: Keys = Keys {
    read: &["k"],
    neutral: &[],
    ignored: &[(TRAINING, TRAINING_KEYS), (TRAINING, &["rescale_acts_by_decoder_norm"])],
};

const TRAINING_KEYS: &[&str] = &[
    "aux_loss_coefficient",
    "decoder_init_norm",
    "jumprelu_bandwidth",
    "jumprelu_init_threshold",
    "jumprelu_sparsity_loss_mode",
    "jumprelu_ste_to_input",
    "jumprelu_tanh_scale",
    "l0_coefficient",
    "l0_warm_up_steps",
    "l1_coefficient",
    "l1_warm_up_steps",
    "lp_norm",
    "matryoshka_widths",
    "pre_act_loss_coefficient",
    "target_l0",
    "topk_threshold_lr",
    "use_matryoshka_aux_loss",
    "use_sparse_activations",
];

const LEGACY_TRAINING_KEYS: &[&str] = &[
    "adam_beta1",
    "adam_beta2",
    "autocast",
    "autocast_lm",
    "b_dec_init_method",
    "checkpoint_path",
    "compile_llm",
    "compile_sae",
    "dead_feature_estimation_method",
    "dead_feature_threshold",
    "dead_feature_window",
    "decoder_heuristic_init",
    "decoder_heuristic_init_norm",
    "decoder_orthogonal_init",
    "eval_batch_size_prompts",
    "eval_every_n_wandb_logs",
    "expansion_factor",
    "feature_reinit_scale",
    "feature_sampling_method",
    "feature_sampling_window",
    "finetuning_method",
    "finetuning_tokens",
    "from_pretrained_path",
    "init_encoder_as_decoder_transpose",
    "llm_compilation_mode",
    "log_activations_store_to_wandb",
    "log_optimizer_state_to_wandb",
    "log_to_wandb",
    "lr",
    "lr_decay_steps",
    "lr_end",
    "lr_scheduler_name",
    "lr_warm_up_steps",
    "mse_loss_normalization",
    "n_checkpoints",
    "n_eval_batches",
    "n_restart_cycles",
    "noise_scale",
    "normalize_sae_decoder",
    "resample_batches",
    "resume",
    "run_name",
    "sae_compilation_mode",
    "scale_sparsity_penalty_by_decoder_norm",
    "seed",
    "train_batch_size",
    "train_batch_size_tokens",
    "use_ghost_grads",
    "verbose",
    "wandb_entity",
    "wandb_id",
    "wandb_log_frequency",
    "wandb_project",
];

const LEGACY_DATA_KEYS: &[&str] = &[
    "cached_activations_path",
    "hook_eval",
    "is_dataset_tokenized",
    "model_kwargs",
    "n_batches_in_buffer",
    "store_batch_size",
    "store_batch_size_prompts",
    "streaming",
    "tokens_per_buffer",
    "total_training_tokens",
    "training_tokens",
    "use_cached_activations",
];
