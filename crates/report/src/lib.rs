//! Figures, pages, the token viewer, tables for the terminal, and exports. Shows what was measured; knows nothing of how a
//! number came about.

pub mod inspect;
pub mod page;
pub mod palette;
pub mod plot;
pub mod table;
pub mod tensorboard;
pub mod terminal;
pub mod text;
pub mod view;
