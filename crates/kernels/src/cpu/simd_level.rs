//! The choice of vector instructions, made when the program runs: functions are compiled for every level.

#![allow(
    unsafe_code,
    reason = "calls of functions compiled for other instructions; every block states why it is sound"
)]

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::error::KernelError;

/// The widest vector instructions of this machine that the kernels use, from wide to narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// Whatever the compiler makes of plain loops.
    Portable,
}

impl SimdLevel {
    /// What this machine has (detected once, then cached by the standard library).
    #[inline]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Name, as [`SimdLevel::VARIABLE`] takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// The environment variable that names the level to be used.
    pub const VARIABLE: &str = "ALOUD_INSTRUCTIONS";

    /// The level that [`SimdLevel::VARIABLE`] names, or what this machine has if it is not set.
    ///
    /// # Errors
    /// If it is no level, or one that this machine lacks.
    pub fn from_environment() -> Result<Self, KernelError> {
        let Some(wanted) = std::env::var_os(Self::VARIABLE) else { return Ok(Self::detect()) };
        let found = Self::detect();
        let level = [Self::Avx512, Self::Avx2, Self::Portable].into_iter().find(|level| wanted == level.name());
        level.filter(|level| *level >= found).ok_or_else(|| KernelError::Instructions {
            variable: Self::VARIABLE,
            wanted: wanted.to_string_lossy().into_owned(),
            found: found.name(),
        })
    }

    /// Lets the kernels of this process use these instructions, or narrower ones where the machine lacks them; returns what they
    /// use. For tests and comparisons.
    pub fn limit(level: Self) -> Self {
        let level = level.max(Self::detect());
        IN_USE.store(level as u8, Relaxed);
        level
    }

    /// What the kernels use: what [`SimdLevel::limit`] said, or else the environment, or else what this machine has.
    #[inline]
    pub fn in_use() -> Self {
        match IN_USE.load(Relaxed) {
            AVX512 => Self::Avx512,
            AVX2 => Self::Avx2,
            PORTABLE => Self::Portable,
            _ => Self::limit(Self::from_environment().unwrap_or_else(|_| Self::detect())),
        }
    }
}

const AVX512: u8 = SimdLevel::Avx512 as u8;
const AVX2: u8 = SimdLevel::Avx2 as u8;
const PORTABLE: u8 = SimdLevel::Portable as u8;

/// The level in use; no level until the first op.
static IN_USE: AtomicU8 = AtomicU8::new(u8::MAX);

/// Compiles a function for every [`SimdLevel`] and calls the one that fits the machine. The body is plain Rust, which
/// the compiler vectorises with the widest registers of each level.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::cpu::simd_level::SimdLevel::in_use() {
                    // SAFETY: the level in use was detected on this very machine, or is narrower.
                    $crate::cpu::simd_level::SimdLevel::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd_level::SimdLevel::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd_level::SimdLevel::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
