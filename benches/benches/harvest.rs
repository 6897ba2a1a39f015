//! Activations at a hook point: tokens a second of hosts of published sizes.
//!
//! The weights are noise, which costs the same as trained ones; nothing after the hook point is
//! computed. A measurement is one batch, as `harvest` computes it: 16 contexts of 128 tokens, or 16
//! images of 224 × 224 pixels. On a GPU (`SOFTSAE_BENCH_DEVICE`) in f32 and in bf16.

use std::path::Path;
use std::time::Duration;

use benches::{Table, device, measure};
use criterion::Criterion;
use sae_hosts::{HookPoint, HostModel};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 16;

/// What follows the name of a host, and what it computes in.
const PRECISIONS: [(&str, Kind); 2] = [("", Kind::Float), ("-bf16", Kind::BFloat16)];

/// A host: its settings, its tensors, the hook point and what it reads.
struct Host {
    name: &'static str,
    config: Value,
    tensors: Vec<(String, Vec<i64>)>,
    hook: &'static str,
    input: fn(Device, Kind) -> Tensor,
    /// Positions of an input.
    positions: i64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = device();
    let on = match device {
        Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
        _ => "cpu".to_owned(),
    };
    let precisions = if device == Device::Cpu { &PRECISIONS[..1] } else { &PRECISIONS[..] };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(10))
        .configure_from_args();
    let mut table = Table::new("harvest");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut positions = Vec::new();
    for host in [smollm2(), dinov2()] {
        let folder = tempfile::tempdir()?;
        let id = |mark: &str| format!("harvest/{}{mark}/{on}", host.name);
        if wanted.as_ref().is_some_and(|w| precisions.iter().all(|(mark, _)| !id(mark).contains(w)))
        {
            continue;
        }
        host.write(folder.path())?;
        for (mark, kind) in precisions {
            let id = id(mark);
            let model = HostModel::load_as(folder.path(), device, *kind)?;
            let (input, hook) = ((host.input)(device, *kind), host.hook.parse::<HookPoint>()?);
            measure(&mut criterion, &id, device, &mut || {
                let _ = std::hint::black_box(
                    model.activations(&input, hook).expect("a host and its input"),
                );
            });
            table.add(&id, None);
            positions.push((id, BATCH * host.positions));
        }
    }
    criterion.final_summary();
    table.finish()?;
    println!("\npositions a second");
    for (id, n) in positions {
        if let Some(median_ns) = table.median_ns(&id) {
            println!("{id:32} {:.0}", n as f64 / median_ns * 1e9);
        }
    }
    Ok(())
}

impl Host {
    /// A folder that the host is loaded from.
    fn write(&self, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        tch::manual_seed(1);
        let spread = |shape: &[i64]| 1.0 / (*shape.last().unwrap_or(&1) as f64).sqrt();
        let tensor = |shape: &[i64]| match shape {
            [_] => Tensor::ones(shape, (Kind::Float, Device::Cpu)),
            _ => Tensor::randn(shape, (Kind::Float, Device::Cpu)) * spread(shape),
        };
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, shape)| (name, tensor(shape))).collect();
        Tensor::write_safetensors(&tensors, folder.join("model.safetensors"))?;
        Ok(std::fs::write(folder.join("config.json"), self.config.to_string())?)
    }
}

/// SmolLM2-135M, of whose 30 layers 16 are computed.
fn smollm2() -> Host {
    const LAYERS: i64 = 16;
    let (d, kv, mlp, vocabulary) = (576, 192, 1536, 49152);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, d]),
        ("model.norm.weight".to_owned(), vec![d]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![d]),
            ("self_attn.q_proj", vec![d, d]),
            ("self_attn.k_proj", vec![kv, d]),
            ("self_attn.v_proj", vec![kv, d]),
            ("self_attn.o_proj", vec![d, d]),
            ("post_attention_layernorm", vec![d]),
            ("mlp.gate_proj", vec![mlp, d]),
            ("mlp.up_proj", vec![mlp, d]),
            ("mlp.down_proj", vec![d, mlp]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    Host {
        name: "smollm2-135m",
        config: json!({
            "model_type": "llama", "hidden_size": d, "intermediate_size": mlp,
            "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": LAYERS,
            "vocab_size": vocabulary, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0, "tie_word_embeddings": true,
        }),
        tensors,
        hook: "resid_post.15",
        input: |device, _| Tensor::randint(49152, [BATCH, 128], (Kind::Int64, device)),
        positions: 128,
    }
}

/// DINOv2-small, of whose 12 layers 9 are computed.
fn dinov2() -> Host {
    const LAYERS: i64 = 9;
    let (d, mlp) = (384, 1536);
    let mut tensors = vec![
        ("embeddings.cls_token".to_owned(), vec![1, 1, d]),
        ("embeddings.position_embeddings".to_owned(), vec![1, 257, d]),
        ("embeddings.patch_embeddings.projection.weight".to_owned(), vec![d, 3, 14, 14]),
        ("embeddings.patch_embeddings.projection.bias".to_owned(), vec![d]),
        ("layernorm.weight".to_owned(), vec![d]),
        ("layernorm.bias".to_owned(), vec![d]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape| {
            tensors.push((format!("encoder.layer.{layer}.{name}"), shape));
        };
        for name in ["query", "key", "value"] {
            add(&format!("attention.attention.{name}.weight"), vec![d, d]);
            add(&format!("attention.attention.{name}.bias"), vec![d]);
        }
        for (name, outputs, inputs) in
            [("attention.output.dense", d, d), ("mlp.fc1", mlp, d), ("mlp.fc2", d, mlp)]
        {
            add(&format!("{name}.weight"), vec![outputs, inputs]);
            add(&format!("{name}.bias"), vec![outputs]);
        }
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            add(name, vec![d]);
        }
        add("layer_scale1.lambda1", vec![d]);
        add("layer_scale2.lambda1", vec![d]);
    }
    Host {
        name: "dinov2-small",
        config: json!({
            "model_type": "dinov2", "hidden_size": d, "num_attention_heads": 6,
            "num_hidden_layers": LAYERS, "image_size": 224,
        }),
        tensors,
        hook: "resid_post.8",
        input: |device, kind| {
            Tensor::randn([BATCH, 3, 224, 224], (Kind::Float, device)).to_kind(kind)
        },
        positions: 257,
    }
}
