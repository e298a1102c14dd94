//! Documents of every language → the engine's model. Pure.
