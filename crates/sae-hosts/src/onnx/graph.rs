//! What a graph computes, line by line, against what DINOv2 is known to compute.

use std::collections::{BTreeMap, BTreeSet};

use super::proto::{Attribute, FLOAT, INT64, Model, Node, Tensor};

/// What the final norm returns.
const OUTPUT: &str = "/backbone/layernorm/Add_1_output_0";

/// The lines of the graph, of which each layer has those between `==`.
const EXPECTED: &str = include_str!("dinov2.txt");

/// The sizes of a model, as its weights and constants have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) d_model: u64,
    pub(super) n_layers: u64,
    pub(super) n_heads: u64,
    pub(super) mlp_ratio: u64,
    pub(super) patch_size: u64,
    /// Patches along an edge of an image, of those that position embeddings are for.
    pub(super) grid: u64,
}

impl Sizes {
    /// Reads them off the graph; the error says what is missing.
    pub(super) fn of(model: &Model<'_>) -> Result<Self, String> {
        let shape = |name: &str| {
            // The shape of others is not that of their values.
            let tensor = model.tensors.get(name).filter(|tensor| tensor.kind == FLOAT);
            let tensor = tensor.ok_or_else(|| format!("no tensor `{name}` of f32"))?;
            Ok::<_, String>(tensor.shape.as_slice())
        };
        let wrong = |name: &str, shape: &[u64]| format!("`{name}` of shape {shape:?}");
        let class = "backbone.embeddings.cls_token";
        let [1, 1, d_model] = *shape(class)? else { return Err(wrong(class, shape(class)?)) };
        let patches = "backbone.embeddings.patch_embeddings.projection.weight";
        let [_, 3, patch_size, _] = *shape(patches)? else {
            return Err(wrong(patches, shape(patches)?));
        };
        let n_layers = (0..).find(|layer| {
            !model
                .tensors
                .contains_key(format!("backbone.encoder.layer.{layer}.norm1.weight").as_str())
        });
        let up = "backbone.encoder.layer.0.mlp.fc1.bias";
        let [d_mlp] = *shape(up)? else { return Err(wrong(up, shape(up)?)) };
        let node = |name: &str| {
            let found = model.nodes.iter().find(|node| node.name == name);
            found.ok_or_else(|| format!("no node `{name}`"))
        };
        let n_heads =
            n_heads(model, node("/backbone/encoder/layer.0/attention/attention/Concat")?)?;
        let positions = "/backbone/embeddings/Reshape_1";
        let name = node(positions)?.inputs.first().copied().unwrap_or_default();
        let [1, n_patches, _] = *shape(name)? else { return Err(wrong(name, shape(name)?)) };
        let grid = n_patches.isqrt();
        let all = [d_model, d_mlp, patch_size, n_patches];
        for (what, is_whole) in [
            // Far above any model, far below overflow.
            ("sizes below 2^20", all.iter().all(|size| *size < 1 << 20)),
            ("position embeddings of a square", grid * grid == n_patches),
            ("heads that divide the dimension", d_model > 0 && d_model % n_heads == 0),
            ("an MLP of a multiple of the dimension", d_model > 0 && d_mlp % d_model == 0),
        ] {
            if !is_whole {
                return Err(format!(
                    "no {what}: dimension {d_model}, MLP {d_mlp}, {n_heads} heads, {n_patches} patches"
                ));
            }
        }
        Ok(Self {
            d_model,
            n_layers: n_layers.unwrap_or(0),
            n_heads,
            mlp_ratio: d_mlp / d_model,
            patch_size,
            grid,
        })
    }

    /// A line of the expected graph, with these sizes in it.
    fn fill(&self, line: &str, layer: u64) -> String {
        let before = match layer {
            0 => "/backbone/embeddings/Add".to_owned(),
            layer => format!("/backbone/encoder/layer.{}/Add_1", layer - 1),
        };
        let last = format!("/backbone/encoder/layer.{}/Add_1", self.n_layers.wrapping_sub(1));
        let head_dim = self.d_model / self.n_heads;
        let scale = (head_dim as f64).powf(-0.25) as f32;
        let d_mlp = self.mlp_ratio * self.d_model;
        [
            ("{d_model}", self.d_model.to_string()),
            ("{d_mlp}", d_mlp.to_string()),
            ("{n_heads}", self.n_heads.to_string()),
            ("{head_dim}", head_dim.to_string()),
            ("{scale}", format!("{scale:?}")),
            ("{patch_size}", self.patch_size.to_string()),
            ("{n_patches}", (self.grid * self.grid).to_string()),
            ("{layer}", format!("/backbone/encoder/layer.{layer}")),
            ("{weights}", format!("backbone.encoder.layer.{layer}")),
            ("{before}", before),
            ("{last}", last),
        ]
        .iter()
        .fold(line.to_owned(), |line, (mark, value)| line.replace(mark, value))
    }

    fn expected(&self) -> Vec<String> {
        let mut parts = EXPECTED.split("==\n").map(|part| part.lines());
        let mut part = || parts.next().into_iter().flatten();
        let (first, layer, last): (Vec<_>, Vec<_>, Vec<_>) =
            (part().collect(), part().collect(), part().collect());
        let of_layers = (0..self.n_layers).flat_map(|n| layer.iter().map(move |line| (*line, n)));
        let ends = |lines: Vec<&'static str>| lines.into_iter().map(|line| (line, 0));
        let lines = ends(first).chain(of_layers).chain(ends(last));
        lines.map(|(line, layer)| self.fill(line, layer)).collect()
    }
}

/// The number of heads that a node splits activations into.
fn n_heads(model: &Model<'_>, node: &Node<'_>) -> Result<u64, String> {
    let constants = constants(model);
    let found = node.inputs.get(2).and_then(|name| constants.get(name)?.integers());
    match found.as_deref() {
        Some([n_heads]) if *n_heads > 0 => Ok(n_heads.unsigned_abs()),
        _ => Err(format!("no number of heads in `{}`", node.name)),
    }
}

/// Compares what the final norm depends on with DINOv2; an error is the first node that differs,
/// what was expected of it, and what it is.
pub(super) fn check(model: &Model<'_>, sizes: &Sizes) -> Result<(), (String, String, String)> {
    if model.inputs.len() != 1 || model.opset != 14 {
        let expected = "one image, operators of version 14".to_owned();
        let got = format!("{:?}, operators of version {}", model.inputs, model.opset);
        return Err(("inputs".to_owned(), expected, got));
    }
    let (found, expected) = (lines(model), sizes.expected());
    let n = found.len().max(expected.len());
    for at in 0..n {
        let (found, expected) = (found.get(at), expected.get(at));
        if found != expected {
            let name = |line: Option<&String>| {
                line.map(|line| line.split(" = ").next().unwrap_or_default().to_owned())
            };
            let node = name(found).or_else(|| name(expected)).unwrap_or_default();
            let text = |line: Option<&String>| line.cloned().unwrap_or_else(|| "nothing".into());
            return Err((node, text(expected), text(found)));
        }
    }
    Ok(())
}

/// The nodes that the final norm depends on, in their order, with constants in their places.
pub(super) fn lines(model: &Model<'_>) -> Vec<String> {
    let constants = constants(model);
    let mut needed = BTreeSet::from([OUTPUT]);
    let mut lines = Vec::new();
    // Nodes come after those that they depend on.
    for node in model.nodes.iter().rev() {
        let is_constant = node.outputs.iter().any(|output| constants.contains_key(output));
        if is_constant || !node.outputs.iter().any(|output| needed.contains(output)) {
            continue;
        }
        needed.extend(node.inputs.iter().copied());
        let inputs = node.inputs.iter().map(|input| match constants.get(input) {
            Some(constant) => value(constant),
            None => match model.tensors.get(input) {
                Some(weight) if input.starts_with("onnx::") => format!("{:?}", weight.shape),
                Some(_) => (*input).to_owned(),
                None if model.inputs.contains(input) => "image".to_owned(),
                None => input.strip_suffix("_output_0").unwrap_or(input).to_owned(),
            },
        });
        let inputs = inputs.collect::<Vec<_>>().join(", ");
        let attributes =
            node.attributes.iter().map(|(name, of)| format!(" {name}={}", setting(of)));
        let attributes: String = attributes.collect();
        lines.push(format!("{} = {}({inputs}){attributes}", node.name, node.op));
    }
    lines.reverse();
    lines
}

/// What nodes of constants return.
fn constants<'m, 'a>(model: &'m Model<'a>) -> BTreeMap<&'a str, &'m Tensor<'a>> {
    let constant = |node: &'m Node<'a>| match (node.op, node.attributes.get("value")) {
        ("Constant", Some(Attribute::Tensor(tensor))) => Some((*node.outputs.first()?, tensor)),
        _ => None,
    };
    model.nodes.iter().filter_map(constant).collect()
}

/// The values of a constant, those of a scalar without brackets.
fn value(tensor: &Tensor<'_>) -> String {
    let values = match tensor.kind {
        INT64 => tensor.integers().map(|values| format!("{values:?}")),
        FLOAT => tensor.floats().map(|values| format!("{values:?}")),
        _ => None,
    };
    let Some(values) = values else { return format!("type {} {:?}", tensor.kind, tensor.raw) };
    match tensor.shape.is_empty() {
        true => values.trim_matches(['[', ']']).to_owned(),
        false => values,
    }
}

fn setting(attribute: &Attribute<'_>) -> String {
    match attribute {
        Attribute::Float(value) => format!("{value:?}"),
        Attribute::Integer(value) => value.to_string(),
        Attribute::Text(text) => (*text).to_owned(),
        Attribute::Tensor(tensor) => value(tensor),
        Attribute::Integers(values) => format!("{values:?}"),
        Attribute::Floats(values) => format!("{values:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::writing::{bytes, integer};
    use super::*;

    const SIZES: Sizes =
        Sizes { d_model: 8, n_layers: 2, n_heads: 2, mlp_ratio: 4, patch_size: 3, grid: 2 };

    /// A file whose graph has one node beside a constant.
    fn file(attribute: &str, opset: i64) -> Vec<u8> {
        let message = |fields: &[(u32, &[u8])]| {
            let mut out = Vec::new();
            fields.iter().for_each(|(number, value)| bytes(*number, value, &mut out));
            out
        };
        let mut tensor = message(&[(8, b""), (9, &7_i64.to_le_bytes())]);
        integer(2, INT64, &mut tensor);
        let value = message(&[(1, b"value"), (5, &tensor)]);
        let constant = message(&[(2, b"c"), (3, b"C"), (4, b"Constant"), (5, &value)]);
        let mut axis = message(&[(1, attribute.as_bytes())]);
        integer(3, -1, &mut axis);
        let fields: [(u32, &[u8]); 6] = [
            (1, b"pixels"),
            (1, b"c"),
            (2, OUTPUT.as_bytes()),
            (3, b"N"),
            (4, b"Gather"),
            (5, &axis),
        ];
        let node = message(&fields);
        let graph = message(&[(1, &constant), (1, &node), (11, &message(&[(1, b"pixels")]))]);
        let mut operators = Vec::new();
        integer(2, opset, &mut operators);
        message(&[(7, &graph), (8, &operators)])
    }

    #[test]
    fn a_graph_is_told_line_by_line() {
        let bytes = file("axis", 14);
        let model = Model::read(&bytes).unwrap();
        assert_eq!(lines(&model), ["N = Gather(image, 7) axis=-1"]);
        let (node, expected, got) = check(&model, &SIZES).unwrap_err();
        assert_eq!((node.as_str(), got.as_str()), ("N", "N = Gather(image, 7) axis=-1"));
        assert_eq!(expected, "/Shape = Shape(image)");
        let older = file("axis", 13);
        let (node, ..) = check(&Model::read(&older).unwrap(), &SIZES).unwrap_err();
        assert_eq!(node, "inputs");
    }

    #[test]
    fn every_line_has_its_sizes() {
        let expected = SIZES.expected();
        assert!(expected.iter().all(|line| !line.contains(['{', '}'])), "{expected:?}");
        let of = |layer: u64| {
            let scope = format!("/backbone/encoder/layer.{layer}/");
            expected.iter().filter(move |line| line.starts_with(&scope)).count()
        };
        assert!(of(0) > 50 && of(0) == of(1) && of(2) == 0);
        let head = expected.iter().find(|line| line.contains("attention/Concat = ")).unwrap();
        assert!(head.ends_with("[2], [4]) axis=0"), "{head}");
    }

    #[test]
    fn a_file_that_is_cut_off_or_of_another_kind_is_an_error() {
        let bytes = file("axis", 14);
        for length in 0..bytes.len() {
            let read = Model::read(&bytes[..length]);
            // The version of the operators comes last.
            assert!(read.is_err() || read.unwrap().opset == 0, "{length} bytes");
        }
        assert!(Model::read(b"GGUF").is_err());
    }
}
