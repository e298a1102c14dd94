//! Text → documents: reads a directory of YAML and places every value in its file. It knows no rules engine.
