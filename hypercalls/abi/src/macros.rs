//! The macros every module uses, so that a number or a layout is written once and is also data.
//!
//! Each named number carries the name it has in Xen's public headers, and each structure its field offsets; the
//! header test reads both lists and compares them with what a C compiler makes of the headers.

/// A named number of the interface: name in the public headers, and value (unsigned 64-bit values reinterpreted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Name in Xen's public headers.
    pub name: &'static str,
    /// Value; a `u64` above `i64::MAX` appears as its two's complement.
    pub value: i64,
}

/// A field of a structure of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// C designator of the field, relative to the structure (`u.pirq` for a member of a union).
    pub name: &'static str,
    /// Byte offset in the structure.
    pub offset: usize,
    /// Size of the field in bytes.
    pub size: usize,
}

/// A structure as it lies in guest memory, described as data.
pub trait Layout {
    /// C type in Xen's public headers, with its `struct` or `union`.
    const C_TYPE: &'static str;
    /// Size in bytes.
    const SIZE: usize;
    /// Alignment in bytes.
    const ALIGN: usize;
    /// The fields with a meaning, in order; padding is left out.
    const FIELDS: &'static [Field];
}

/// Size of the field that `_project` selects.
pub(crate) const fn field_size<T, F>(_project: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Defines a transparent integer with named values, of which any other value is legal too.
///
/// Guests choose these numbers, so a closed `enum` would make an unknown one undefined behaviour or a special case.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $ty:ident: $repr:ty {
            $($(#[$doc:meta])* $name:ident = $value:literal => $c:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $ty(pub $repr);

        impl $ty {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every named value, with its name in the public headers.
            pub const NAMED: &'static [$crate::Named] =
                &[$($crate::Named { name: $c, value: Self::$name.0 as i64 }),*];

            /// Name of the value in the public headers, `None` for one without a name.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($c),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($ty), "({})"), self.0),
                }
            }
        }
    };
}

/// Defines a transparent set of bits; bits without a name are kept, since a guest may set them.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        pub struct $ty:ident: $repr:ty {
            $($(#[$($doc:tt)*])* const $name:ident = $value:expr => $c:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash,
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $ty($repr);

        ::bitflags::bitflags! {
            impl $ty: $repr {
                $($(#[$($doc)*])* const $name = $value;)*
            }
        }

        impl $ty {
            /// Every named bit, with its name in the public headers.
            pub const NAMED: &'static [$crate::Named] =
                &[$($crate::Named { name: $c, value: Self::$name.bits() as i64 }),*];
        }

        impl core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($ty), "({:#x}"), self.bits())?;
                if !self.is_empty() {
                    f.write_str(": ")?;
                    ::bitflags::parser::to_writer(self, &mut *f)?;
                }
                f.write_str(")")
            }
        }
    };
}

/// Defines the plain constants of a module and `CONSTANTS`, the list of them; `in LIST;` before them names it otherwise.
macro_rules! constants {
    ($(#[$doc:meta])* pub const $($rest:tt)*) => {
        constants! { in CONSTANTS; $(#[$doc])* pub const $($rest)* }
    };
    (in $list:ident; $($(#[$doc:meta])* pub const $name:ident: $ty:ty = $value:expr => $c:literal;)*) => {
        $($(#[$doc])* pub const $name: $ty = $value;)*

        /// The plain constants of this module, with their names in the public headers.
        pub const $list: &[$crate::Named] =
            &[$($crate::Named { name: $c, value: $name as i64 }),*];
    };
}

/// Holds the size and the offsets of a structure at compile time and implements [`Layout`] for it.
macro_rules! layout {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $c:literal) => { $c };
    ($ty:ident = $c_type:literal, $size:literal { $($field:ident @ $offset:literal $(= $c:literal)?),* $(,)? }) => {
        ::static_assertions::const_assert_eq!(size_of::<$ty>(), $size);
        $(::static_assertions::const_assert_eq!(core::mem::offset_of!($ty, $field), $offset);)*

        impl $crate::Layout for $ty {
            const C_TYPE: &'static str = $c_type;
            const SIZE: usize = $size;
            const ALIGN: usize = align_of::<$ty>();
            const FIELDS: &'static [$crate::Field] = &[$($crate::Field {
                name: layout!(@name $field $($c)?),
                offset: $offset,
                size: $crate::macros::field_size(|t: &$ty| &t.$field),
            }),*];
        }
    };
}

/// Defines a structure of the interface: C layout, no implicit padding, any bit pattern valid, and its [`Layout`].
///
/// `field: type, @offset` is a field of the same name in C, `@offset = "path"` one with another name there, and a
/// field without an offset is padding that C leaves implicit.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        pub struct $ty:ident = $c_type:literal, $size:literal {
            $($(#[$doc:meta])* pub $field:ident: $fty:ty $(, @ $offset:literal $(= $c:literal)?)?;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $ty {
            $($(#[$doc])* pub $field: $fty,)*
        }

        wire!(@layout [$ty = $c_type, $size] [] $($field $(@ $offset $(= $c)?)?;)*);
    };
    (@layout [$($head:tt)*] [$($out:tt)*]) => {
        layout!($($head)* { $($out)* });
    };
    (@layout [$($head:tt)*] [$($out:tt)*] $field:ident @ $offset:literal = $c:literal; $($rest:tt)*) => {
        wire!(@layout [$($head)*] [$($out)* $field @ $offset = $c,] $($rest)*);
    };
    (@layout [$($head:tt)*] [$($out:tt)*] $field:ident @ $offset:literal; $($rest:tt)*) => {
        wire!(@layout [$($head)*] [$($out)* $field @ $offset,] $($rest)*);
    };
    (@layout [$($head:tt)*] [$($out:tt)*] $field:ident; $($rest:tt)*) => {
        wire!(@layout [$($head)*] [$($out)*] $($rest)*);
    };
}
