//! Data sets, prompts, generators and answer extraction.
