//! Activation stores, exact statistics and a shuffled, resumable loader
