//! The macros that write a structure's type, table and codec from one declaration.

/// Implements [`Wire`](crate::versioned::Wire) for types of which any bit pattern is a value, all bytes being one field.
macro_rules! scalars {
    ($($ty:ty),* $(,)?) => {$(
        impl $crate::versioned::Wire for $ty {
            const SHAPE: $crate::versioned::Shape = $crate::versioned::Shape::Scalar {
                size: size_of::<$ty>(),
                align: align_of::<$ty>(),
            };

            fn absent() -> Self {
                ::zerocopy::FromZeros::new_zeroed()
            }

            fn get(
                bytes: &[u8],
                _version: u32,
                _machine: $crate::versioned::Machine,
            ) -> Result<Self, $crate::versioned::DecodeError> {
                match ::zerocopy::FromBytes::read_from_prefix(bytes) {
                    Ok((value, _)) => Ok(value),
                    Err(_) => Err($crate::versioned::DecodeError::Short),
                }
            }

            fn put(&self, bytes: &mut [u8], _version: u32, _machine: $crate::versioned::Machine) {
                // The slice has this size: it was cut by the shape above.
                let _ = ::zerocopy::IntoBytes::write_to_prefix(self, bytes);
            }
        }
    )*};
}

/// Defines a number whose width changed: the number before, the number after, and the first version with that.
macro_rules! widened {
    (
        $(#[$meta:meta])*
        pub struct $ty:ident: $before:ty, $after:ty, since $from:literal;
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $ty(pub $after);

        impl $crate::versioned::Wire for $ty {
            const SHAPE: $crate::versioned::Shape = $crate::versioned::Shape::Changed {
                from: $from,
                before: &<$before as $crate::versioned::Wire>::SHAPE,
                after: &<$after as $crate::versioned::Wire>::SHAPE,
            };

            fn absent() -> Self {
                Self(0)
            }

            fn get(
                bytes: &[u8],
                version: u32,
                machine: $crate::versioned::Machine,
            ) -> Result<Self, $crate::versioned::DecodeError> {
                if version < $from {
                    <$before as $crate::versioned::Wire>::get(bytes, version, machine)
                        .map(|value| Self(value.into()))
                } else {
                    <$after as $crate::versioned::Wire>::get(bytes, version, machine).map(Self)
                }
            }

            fn put(&self, bytes: &mut [u8], version: u32, machine: $crate::versioned::Machine) {
                if version < $from {
                    $crate::versioned::Wire::put(&(self.0 as $before), bytes, version, machine)
                } else {
                    $crate::versioned::Wire::put(&self.0, bytes, version, machine)
                }
            }
        }
    };
}

/// Defines a structure: the type, its [`Shape`](crate::versioned::Shape) and its codec.
///
/// After a field's type: `c "name"` its name in C if another, `since V` and `until V` the versions and `on M` the machine
/// that have it, and padding that follows it: `zero N` bytes that must be zero, `skip N` bytes that need not
/// (`N since V` for both).
macro_rules! record {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $c:literal) => { $c };
    (@since) => { 0 };
    (@since $since:literal) => { $since };
    (@until) => { u32::MAX };
    (@until $until:literal) => { $until };
    (@machine) => { None };
    (@machine $machine:ident) => { Some($crate::versioned::Machine::$machine) };
    (@pad $kind:ident $size:literal $($since:literal)?) => {
        $crate::versioned::Rule {
            name: "pad",
            shape: &$crate::versioned::Shape::Scalar { size: $size, align: 1 },
            since: record!(@since $($since)?),
            until: u32::MAX,
            machine: None,
            kind: $crate::versioned::RuleKind::$kind,
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $ty:ident = $c_type:literal {$(
            $(#[$doc:meta])*
            pub $field:ident: $fty:ty
                $(, c $c:literal)?
                $(, since $since:literal)?
                $(, until $until:literal)?
                $(, on $machine:ident)?
                $(, zero $zero:literal $(since $zero_since:literal)?)?
                $(, skip $skip:literal $(since $skip_since:literal)?)?
            ;
        )*}
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis struct $ty {
            $($(#[$doc])* pub $field: $fty,)*
        }

        impl $crate::versioned::Wire for $ty {
            const SHAPE: $crate::versioned::Shape = $crate::versioned::Shape::Record {
                c_type: $c_type,
                rules: &[$(
                    $crate::versioned::Rule {
                        name: record!(@name $field $($c)?),
                        shape: &<$fty as $crate::versioned::Wire>::SHAPE,
                        since: record!(@since $($since)?),
                        until: record!(@until $($until)?),
                        machine: record!(@machine $($machine)?),
                        kind: $crate::versioned::RuleKind::Field,
                    },
                    $(record!(@pad Zero $zero $($zero_since)?),)?
                    $(record!(@pad Skip $skip $($skip_since)?),)?
                )*],
            };

            fn absent() -> Self {
                Self { $($field: <$fty as $crate::versioned::Wire>::absent(),)* }
            }

            fn get(
                bytes: &[u8],
                version: u32,
                machine: $crate::versioned::Machine,
            ) -> Result<Self, $crate::versioned::DecodeError> {
                let mut walk = $crate::versioned::Walk::new(Self::rules(), version, machine);
                $(
                    let $field = walk
                        .get::<$fty>(bytes)?
                        .unwrap_or_else(<$fty as $crate::versioned::Wire>::absent);
                    $(let _ = $zero; walk.check(bytes)?;)?
                    $(let _ = $skip; walk.check(bytes)?;)?
                )*
                Ok(Self { $($field,)* })
            }

            fn put(&self, bytes: &mut [u8], version: u32, machine: $crate::versioned::Machine) {
                let mut walk = $crate::versioned::Walk::new(Self::rules(), version, machine);
                $(
                    walk.put(&self.$field, bytes);
                    $(let _ = $zero; walk.clear(bytes);)?
                    $(let _ = $skip; walk.clear(bytes);)?
                )*
            }
        }

        impl $ty {
            fn rules() -> &'static [$crate::versioned::Rule] {
                match <Self as $crate::versioned::Wire>::SHAPE {
                    $crate::versioned::Shape::Record { rules, .. } => rules,
                    _ => &[],
                }
            }
        }
    };
}

/// Defines the bytes of a C union, of which another field says what they are; the size is the longest there was.
macro_rules! overlay {
    (
        $(#[$meta:meta])*
        $vis:vis struct $ty:ident: $size:literal {
            $($member:ident: $mty:ty $(, c $c:literal)?;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis struct $ty(pub [u8; $size]);

        impl $crate::versioned::Wire for $ty {
            const SHAPE: $crate::versioned::Shape = $crate::versioned::Shape::Union {
                rules: &[$($crate::versioned::Rule {
                    name: record!(@name $member $($c)?),
                    shape: &<$mty as $crate::versioned::Wire>::SHAPE,
                    since: 0,
                    until: u32::MAX,
                    machine: None,
                    kind: $crate::versioned::RuleKind::Field,
                }),*],
            };

            fn absent() -> Self {
                Self([0; $size])
            }

            fn get(
                bytes: &[u8],
                _version: u32,
                _machine: $crate::versioned::Machine,
            ) -> Result<Self, $crate::versioned::DecodeError> {
                // Some versions have fewer bytes than the longest.
                let mut all = [0; $size];
                for (to, from) in all.iter_mut().zip(bytes) {
                    *to = *from;
                }
                Ok(Self(all))
            }

            fn put(&self, bytes: &mut [u8], _version: u32, _machine: $crate::versioned::Machine) {
                for (to, from) in bytes.iter_mut().zip(self.0) {
                    *to = from;
                }
            }
        }
    };
}

/// Gives a type with a [`Wire`](crate::versioned::Wire) codec the methods for elements of arrays in a caller's memory.
macro_rules! element {
    ($($ty:ident),* $(,)?) => {$(
        impl $ty {
            /// Bytes of the structure for callers of `interface` on `machine`: the stride of an array of it.
            pub const fn size(interface: Interface, machine: $crate::versioned::Machine) -> usize {
                <Self as $crate::versioned::Wire>::SHAPE.size(interface.number(), machine)
            }

            /// Reads the structure from the first bytes of `bytes`.
            ///
            /// Errors: [`Reserved`](crate::versioned::DecodeError::Reserved), and
            /// [`Short`](crate::versioned::DecodeError::Short) for fewer than `size` bytes.
            pub fn read(
                bytes: &[u8],
                interface: Interface,
                machine: $crate::versioned::Machine,
            ) -> Result<Self, $crate::versioned::DecodeError> {
                let bytes = bytes
                    .get(..Self::size(interface, machine))
                    .ok_or($crate::versioned::DecodeError::Short)?;
                <Self as $crate::versioned::Wire>::get(bytes, interface.number(), machine)
            }

            /// Writes the structure over the first `size` bytes of `bytes`, padding as zeros, and returns how many they
            /// are; `None`, and nothing is written, if there are fewer.
            pub fn write(
                &self,
                bytes: &mut [u8],
                interface: Interface,
                machine: $crate::versioned::Machine,
            ) -> Option<usize> {
                let size = Self::size(interface, machine);
                let bytes = bytes.get_mut(..size)?;
                bytes.fill(0);
                <Self as $crate::versioned::Wire>::put(self, bytes, interface.number(), machine);
                Some(size)
            }
        }
    )*};
}

/// Gives a type with a [`Wire`](crate::versioned::Wire) codec the methods for a payload, and holds it to fit there.
macro_rules! payloads {
    ($($ty:ident),* $(,)?) => {
        element! { $($ty),* }
        $(
            impl $ty {
                /// Decodes the payload of a caller of `interface` on `machine`.
                ///
                /// Errors: [`Reserved`](crate::versioned::DecodeError::Reserved).
                pub fn decode(
                    payload: &$crate::versioned::Payload,
                    interface: Interface,
                    machine: $crate::versioned::Machine,
                ) -> Result<Self, $crate::versioned::DecodeError> {
                    Self::read(&payload.0, interface, machine)
                }

                /// Encodes into the payload of a caller of `interface` on `machine`. Bytes that no field covers stay the
                /// caller's own.
                pub fn encode(
                    &self,
                    payload: &mut $crate::versioned::Payload,
                    interface: Interface,
                    machine: $crate::versioned::Machine,
                ) {
                    if let Some(bytes) = payload.0.get_mut(..Self::size(interface, machine)) {
                        <Self as $crate::versioned::Wire>::put(self, bytes, interface.number(), machine);
                    }
                }
            }

            const _: () = {
                let mut i = 0;
                while i < Interface::ALL.len() {
                    let interface = Interface::ALL[i];
                    assert!($ty::size(interface, $crate::versioned::Machine::X86_64) <= 128);
                    assert!($ty::size(interface, $crate::versioned::Machine::Arm64) <= 128);
                    i += 1;
                }
            };
        )*
    };
}

/// Defines the numbers of an interface and the table of its operations.
macro_rules! operations {
    (
        $(#[$meta:meta])*
        pub enum $ty:ident {
            $($(#[$doc:meta])* $name:ident = $value:literal => $c:literal, $op:expr;)*
        }
    ) => {
        open_enum! {
            $(#[$meta])*
            pub enum $ty: u32 {
                $($(#[$doc])* $name = $value => $c,)*
            }
        }

        /// Every number that ever had a meaning, in ascending order: an operation's number is given to no other.
        pub static TABLE: &[$crate::versioned::Op] = {
            const OPS: &[$crate::versioned::Op] = &[$($op.named($value, $c)),*];
            assert!($crate::versioned::ascends(OPS));
            OPS
        };
    };
}

/// Holds sizes at compile time: version, bytes on x86-64, bytes on arm64.
macro_rules! sizes {
    ($ty:ident: $($version:ident $x86:literal $arm:literal,)*) => {$(
        ::static_assertions::const_assert_eq!(
            $ty::size(Interface::$version, $crate::versioned::Machine::X86_64),
            $x86
        );
        ::static_assertions::const_assert_eq!(
            $ty::size(Interface::$version, $crate::versioned::Machine::Arm64),
            $arm
        );
    )*};
}

/// Holds sizes at compile time that are the same in all versions and on both machines.
macro_rules! fixed_sizes {
    ($($ty:ident $size:literal,)*) => {$(
        const _: () = {
            let mut i = 0;
            while i < Interface::ALL.len() {
                assert!($ty::size(Interface::ALL[i], $crate::versioned::Machine::X86_64) == $size);
                assert!($ty::size(Interface::ALL[i], $crate::versioned::Machine::Arm64) == $size);
                i += 1;
            }
        };
    )*};
}
