//! Sparse autoencoder architectures, sparse codes and checkpoints
