//! Teacher traces, targets, distillation, run directories.
