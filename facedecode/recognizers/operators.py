"""The operators that a user's program may call: arithmetic on tensors, and nothing that reaches beyond them.

PyTorch has others: `aten::from_file` maps a file for writing, `aten::save` writes one, `aten::set_` gives a tensor
other memory. What is not listed here is refused by its name.

Some of PyTorch's operators trust their arguments: they are the inner halves of others, which check. Given a tensor that
is too short, they read or write memory that is not the model's. A name that begins with an underscore is listed only
where it was tried with operands too short and found to check them.
"""

from __future__ import annotations

REMEDY = (
    "allowed are the operators of networks: convolutions, linear layers, normalizations, activations, attention, "
    "pooling, resampling, reductions, elementwise arithmetic and changes of shape; if a recognizer needs this one, "
    "report it (docs/own-models.md)"
)

_DECOMPOSED = "save the program as torch.export.export gives it, without run_decompositions"
_UNWEIGHTED = "before exporting call torch.nn.utils.parametrize.remove_parametrizations (or remove_weight_norm)"
# What to do where an operator that networks do use trusts its arguments.
_INSTEAD = {
    **dict.fromkeys(("_weight_norm", "_weight_norm_interface"), _UNWEIGHTED),
    **dict.fromkeys(("_reshape_alias", "native_batch_norm", "_native_batch_norm_legit_no_training"), _DECOMPOSED),
    **dict.fromkeys(
        ("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa"),
        "resample to a size, or by one scale",
    ),
    "_scaled_dot_product_flash_attention_for_cpu": _DECOMPOSED,
    "lstm": "it does not check its weights; export the layer as torch.nn.LSTMCell in a loop, or as a GRU",
}


def remedy(name: str) -> str:
    """What to do about an operator that is not allowed, for a message."""
    return _INSTEAD.get(name, REMEDY)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LAYERS = """
    linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution
    _convolution_mode conv_tbc embedding batch_norm _batch_norm_impl_index layer_norm native_layer_norm group_norm
    native_group_norm instance_norm rms_norm norm_except_dim renorm gru rnn_tanh rnn_relu lstm_cell gru_cell
    rnn_tanh_cell rnn_relu_cell dropout native_dropout alpha_dropout feature_dropout feature_alpha_dropout
    scaled_dot_product_attention _native_multi_head_attention _transformer_encoder_layer_fwd _masked_softmax
"""
_ACTIVATIONS = """
    relu relu6 leaky_relu prelu _prelu_kernel rrelu elu selu celu gelu silu mish glu sigmoid log_sigmoid hardsigmoid
    hardswish hardtanh hardshrink softshrink softplus threshold tanh softmax _softmax _safe_softmax log_softmax
    _log_softmax special_expit special_softmax special_log_softmax
"""
_POOLS = """
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    max_unpool2d max_unpool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d _adaptive_avg_pool2d
    _adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d grid_sampler
    grid_sampler_2d grid_sampler_3d affine_grid_generator pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle im2col col2im unfold pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d _pad_circular _pad_enum
"""
_SHAPES = """
    view _unsafe_view reshape reshape_as view_as flatten unflatten squeeze unsqueeze expand expand_as
    broadcast_to broadcast_tensors repeat repeat_interleave tile permute transpose t numpy_T mT mH matrix_H adjoint
    movedim moveaxis swapaxes swapdims contiguous clone alias detach lift lift_fresh as_strided select slice narrow
    chunk split split_with_sizes tensor_split hsplit vsplit dsplit unsafe_chunk unsafe_split unsafe_split_with_sizes
    unbind cat concat concatenate stack hstack vstack dstack column_stack row_stack block_diag flip fliplr flipud roll
    rot90 index _unsafe_index index_select index_put _unsafe_index_put index_add index_copy index_fill
    index_reduce gather scatter scatter_add scatter_reduce select_scatter slice_scatter diagonal_scatter
    as_strided_scatter take take_along_dim put masked_fill masked_scatter masked_select where nonzero nonzero_static
    argwhere diag diagonal diag_embed diagflat tril triu tril_indices triu_indices meshgrid one_hot atleast_1d
    atleast_2d atleast_3d ravel sort argsort msort topk kthvalue searchsorted bucketize view_as_real view_as_complex
    linalg_diagonal
"""
_MADE = """
    zeros ones full empty eye arange range linspace logspace scalar_tensor zeros_like ones_like full_like empty_like
    empty_strided empty_permuted new_zeros new_ones new_full new_empty new_empty_strided rand randn randint randperm
    rand_like randn_like randint_like normal uniform bernoulli normal_functional hann_window to _to _to_cpu type_as copy
    fill fill_diagonal zero
"""
_ELEMENTWISE = """
    add sub rsub mul div subtract multiply divide true_divide floor_divide remainder fmod pow float_power square sqrt
    rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 abs absolute neg negative positive sign
    sgn signbit ceil floor round trunc fix frac clamp clamp_min clamp_max clip maximum minimum fmax fmin sin cos tan
    asin acos atan atan2 arcsin arccos arctan arctan2 sinh cosh asinh acosh atanh erf erfc erfinv special_erf lerp
    addcmul addcdiv hypot xlogy special_xlogy logit special_logit sinc nan_to_num copysign heaviside deg2rad rad2deg
    ldexp lgamma digamma eq ne lt le gt ge greater greater_equal less less_equal not_equal equal isclose allclose isnan
    isinf isfinite isposinf isneginf isin logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
    bitwise_not bitwise_xor __and__ __or__ __xor__ real imag complex polar conj conj_physical _conj resolve_conj
    resolve_neg angle
"""
_REDUCTIONS = """
    sum nansum mean nanmean prod var std var_mean std_mean amax amin aminmax _aminmax max min argmax argmin any all
    median nanmedian quantile mode norm linalg_norm linalg_vector_norm linalg_matrix_norm frobenius_norm logsumexp
    special_logsumexp cumsum cumprod cummax cummin logcumsumexp count_nonzero diff trace cosine_similarity
    pairwise_distance cdist _cdist_forward _euclidean_dist pdist dist matmul mm bmm mv dot vdot inner outer ger addmm
    addmv addr addbmm baddbmm _addmm_activation einsum tensordot kron cross linalg_cross linalg_multi_dot linalg_matmul
    chain_matmul _trilinear fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn
    fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift fft_fftfreq fft_rfftfreq
"""
# Sizes, and what exported programs assert of them.
_SIZES = """
    sym_size sym_numel sym_stride sym_storage_offset sym_is_contiguous sym_constrain_range
    sym_constrain_range_for_size item _local_scalar_dense _assert_scalar _assert_async _assert_tensor_metadata
    _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size size stride storage_offset numel dim is_floating_point is_complex
    is_contiguous is_nonzero is_same_size result_type promote_types
"""
OPERATORS = _names(f"{_LAYERS} {_ACTIVATIONS} {_POOLS} {_SHAPES} {_MADE} {_ELEMENTWISE} {_REDUCTIONS} {_SIZES}")
"""Names in `torch.ops.aten`, without those that work in place or copy."""

ANTIALIASED = _names("_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa")
"""Resampling, allowed without a scale beside the size: one that does not fit it leads out of the picture."""

PRIMS = _names("""
    convert_element_type broadcast_in_dim view_of collapse_view squeeze transpose iota where sum amax amin
""")
"""Names in `torch.ops.prims`, to which PyTorch decomposes others."""

# TorchScript has lists, numbers and texts, too.
_SCRIPT = _names("""
    len append extend insert pop list dict copy keys values items format percentFormat lower upper startswith endswith
    warn tensor as_tensor device cpu cuda floordiv index count clear reverse sorted ord chr __is__ __isnot__ __not__
    __contains__ __getitem__ _set_item __range_length __derive_index Int Float Bool Complex IntImplicit FloatImplicit
    ScalarImplicit is_grad_enabled is_autocast_enabled is_autocast_cpu_enabled get_device element_size
    _shape_as_tensor mathremainder _infer_size _unwrap_optional __round_to_zero_floordiv __interpolate __upsample
    __upsample_bilinear __upsample_nearest
""")
SCRIPT_PRIMS = _names("""
    RaiseException NumToTensor dtype device layout requires_grad is_nested is_cuda is_cpu is_meta is_quantized
    is_sparse is_mkldnn is_mps is_xpu max min abs type data itemsize tolist unchecked_cast unchecked_unwrap_optional
    name EnumName EnumValue TupleUnpack TupleIndex
""")
"""Names in TorchScript's `ops.prim`."""


def is_operator(name: str) -> bool:
    """Whether an exported program may call `torch.ops.aten.NAME`."""
    in_place = name[:-1] if name.endswith("_") and not name.startswith("__") else name
    return not {name, in_place, name.removesuffix("_copy")}.isdisjoint(OPERATORS)


def is_script_operator(name: str) -> bool:
    """Whether TorchScript may call `torch.NAME`."""
    return name in _SCRIPT or is_operator(name)
