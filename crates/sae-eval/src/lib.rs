//! Evaluation of sparse autoencoders: fidelity, sparsity, cross-entropy recovered
