//! Reading files and telling kinds of documents apart.
