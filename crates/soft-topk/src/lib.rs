//! Differentiable soft top-k (LapSum): weights in [0, 1] that sum to k
