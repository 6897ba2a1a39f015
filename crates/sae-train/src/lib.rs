//! Trainers for sparse autoencoders: losses, schedules, dead features, checkpoint and resume
