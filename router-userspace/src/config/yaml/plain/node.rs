//! A tree that borrows its text, and its way into types and into [`Value`]s.

use serde::{
    de::{
        DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

/// What a document or a part of it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) enum Node<'t> {
    Null,
    Bool(bool),
    Number(u64),
    Text(&'t str),
    List(Vec<Node<'t>>),
    /// In the order of writing; no key is there twice.
    Map(Vec<(&'t str, Node<'t>)>),
}

impl<'t> Node<'t> {
    /// The value of a key of a mapping.
    pub(in crate::config) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    pub(in crate::config) const fn as_text(&self) -> Option<&'t str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Decodes it. Nothing is said of what is wrong: whoever wants to know decodes the [`Value`].
    pub(in crate::config) fn decode<T: DeserializeOwned>(&self) -> Option<T> {
        T::deserialize(self).ok()
    }
}

impl From<&Node<'_>> for Value {
    fn from(node: &Node<'_>) -> Self {
        match node {
            Node::Null => Self::Null,
            Node::Bool(value) => Self::Bool(*value),
            Node::Number(value) => (*value).into(),
            Node::Text(text) => (*text).into(),
            Node::List(items) => items.iter().map(Self::from).collect(),
            Node::Map(entries) => entries
                .iter()
                .map(|(key, node)| ((*key).to_owned(), Self::from(node)))
                .collect(),
        }
    }
}

impl<'de> IntoDeserializer<'de> for &Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(value) => visitor.visit_u64(*value),
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(items) => {
                let mut access = SeqDeserializer::new(items.iter());
                let value = visitor.visit_seq(&mut access)?;
                access.end().map(|()| value)
            }
            Node::Map(entries) => {
                let mut access = MapDeserializer::new(entries.iter().map(|(key, node)| (*key, node)));
                let value = visitor.visit_map(&mut access)?;
                access.end().map(|()| value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Only by way of a [`Value`]: no object of the registry has one.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(Error::custom("left to the whole parser"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}
