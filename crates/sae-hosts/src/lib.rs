//! Host language models over tch with hook points: harvest activations, splice reconstructions back in
