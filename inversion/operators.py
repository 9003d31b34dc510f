"""The operators that a hostile program may call.

`aten` holds more than arithmetic: `from_file` maps a file, `set_` and `resize_` change storage
under a view, `rand` makes a model that never repeats itself. So the list names what is allowed, by
base name; each with all its overloads that take and return tensors and numbers (`generator.py`
looks at the schema), and with its in-place form.
"""

from __future__ import annotations

import re
from typing import Final

_POINTWISE: Final = """
abs absolute acos acosh add addcdiv addcmul alias angle arccos arcsin arctan asin asinh atan atan2
atanh bitwise_and bitwise_not bitwise_or bitwise_xor cast ceil celu clamp clamp_max clamp_min clip
clone contiguous copy cos cosh deg2rad detach div divide dropout alpha_dropout feature_dropout elu
eq equal erf erfc erfinv exp exp2 expand expand_as expm1 fill floor floor_divide fmod frac ge gelu
glu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot isfinite
isinf isnan le leaky_relu lerp less less_equal lgamma lift_fresh lift_fresh_copy log log10 log1p
log2 log_sigmoid log_softmax logaddexp logical_and logical_not logical_or logical_xor logit lt
masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative not_equal pow prelu
rad2deg real reciprocal relu relu6 remainder rrelu rsqrt rsub scalar_tensor selu sigmoid sign silu
sin sinc sinh softmax softplus softshrink sqrt square sub subtract tan tanh tanhshrink threshold
to _to_copy true_divide trunc where xlogy zero zeros_like ones_like full_like _softmax
_log_softmax _unsafe_view special_expit special_erf native_dropout type_as masked_scatter
"""
_SHAPING: Final = """
arange as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat
channel_shuffle chunk column_stack concat constant_pad_nd cumprod cumsum diag diag_embed diagonal
diff empty empty_like expand eye flatten flip fliplr flipud full gather hsplit hstack index
index_add index_copy index_fill index_put index_select linspace logspace meshgrid moveaxis movedim
narrow new_empty new_full new_ones new_zeros numpy_T one_hot ones pad permute pixel_shuffle
pixel_unshuffle reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d
replication_pad2d reshape reshape_as roll rot90 scatter scatter_add select select_scatter slice
slice_scatter sort split split_with_sizes squeeze stack swapaxes swapdims sym_size sym_numel t
take tensor_split tile topk transpose tril triu unbind unflatten unfold unsqueeze view view_as
vsplit vstack zeros im2col col2im sym_stride sym_storage_offset _reshape_alias _unsafe_index
_shape_as_tensor slice_copy view_copy permute_copy expand_copy
"""
_REDUCING: Final = """
all amax amin aminmax any argmax argmin argsort count_nonzero linalg_norm linalg_vector_norm
logsumexp max mean median min norm prod std std_mean sum var var_mean cosine_similarity normalize
"""
_LAYERS: Final = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d _adaptive_avg_pool2d addbmm addmm
addmv avg_pool1d avg_pool2d baddbmm batch_norm bilinear bmm conv1d conv2d conv_transpose1d
conv_transpose2d convolution _convolution dot einsum embedding group_norm instance_norm layer_norm
rms_norm linear linalg_inv linalg_matmul matmul max_pool1d max_pool2d mm mv native_batch_norm
_native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm native_layer_norm
outer scaled_dot_product_attention tensordot tril_indices upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler
grid_sampler_2d affine_grid_generator vdot inner kron native_channel_shuffle local_response_norm
max_pool2d_with_indices linear_backward unfold fold lstm gru rnn_tanh _fused_rms_norm
_scaled_dot_product_flash_attention_for_cpu fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2
fft_rfft2 fft_irfft2 view_as_real view_as_complex complex polar
"""
_ASSERTING: Final = """
_assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range
sym_constrain_range_for_size
"""

ATEN: Final = frozenset(" ".join((_POINTWISE, _SHAPING, _REDUCING, _LAYERS)).split())
IGNORED: Final = frozenset(_ASSERTING.split())
"""Checks that the exporter wrote for itself; the program means the same without them."""
SYMBOLIC: Final = frozenset(
    """
_operator.add _operator.sub _operator.mul _operator.floordiv _operator.truediv _operator.mod
_operator.pow _operator.neg _operator.pos _operator.eq _operator.ne _operator.le _operator.ge
_operator.lt _operator.gt _operator.and_ _operator.or_ _operator.lshift _operator.rshift
_operator.getitem math.trunc torch.sym_not torch.sym_int torch.sym_float torch.sym_ite torch.sym_max
torch.sym_min torch.sym_sqrt
""".split()
)
"""Arithmetic on the batch size."""
RANDOM: Final = re.compile(
    r"(^|_)(rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson)"
)
_ATEN_TARGET: Final = re.compile(r"torch\.ops\.aten\.([a-zA-Z0-9_]{1,64})\.([a-zA-Z0-9_]{1,64})")


def operator_name(target: str) -> tuple[str, str] | None:
    """Split `torch.ops.aten.NAME.OVERLOAD` into its names; None for anything else."""
    matched = _ATEN_TARGET.fullmatch(target)
    return (matched[1], matched[2]) if matched else None


def is_allowed(name: str) -> bool:
    """Say whether the aten operator `name`, or the one it is the in-place form of, is
    on the list.
    """
    in_place = name.endswith("_") and not name.endswith("__")
    return name in ATEN or (in_place and name[:-1] in ATEN)
