//! How long a training took, as the training itself counts it.

use serde::{Deserialize, Serialize};

/// Time spent on a trained model (`timing.json` beside it).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of the steps that the model has gone through, over all attempts; what a kill undid
    /// is not among them.
    pub train_seconds: f64,
}
