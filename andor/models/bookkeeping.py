"""Keys of config.json that say nothing of the forward pass, whatever the family and the value.

The names are those of transformers: what every config class of version 5 and 4 has, and the settings of generation.
Beside them: what tools leave behind, and what matters in training only. A test compares them with those classes.
"""

import re

KEYS = frozenset(
    """
    architectures model_type torch_dtype dtype transformers_version name_or_path base_model_name_or_path license

    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
    tokenizer_class tokenizer_name prefix suffix model_max_length max_sequence_length seq_length max_seq_len
    additional_special_tokens chat_template padding_side

    output_hidden_states output_attentions return_dict torchscript chunk_size_feed_forward problem_type id2label
    label2id num_labels finetuning_task task_specific_params is_decoder add_cross_attention
    cross_attention_hidden_size tie_encoder_decoder pruned_heads use_bfloat16 tf_legacy_loss

    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind bad_words_ids
    begin_suppress_tokens cache_config cache_implementation compile_config constraints continuous_batching_config
    disable_compile diversity_penalty do_sample dola_layers early_stopping encoder_no_repeat_ngram_size
    encoder_repetition_penalty epsilon_cutoff eta_cutoff exponential_decay_length_penalty force_words_ids
    forced_bos_token_id forced_eos_token_id generation_config guidance_scale is_assistant length_penalty low_memory
    max_cache_len max_length max_matching_ngram_size max_new_tokens max_time min_length min_new_tokens min_p
    no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams
    num_return_sequences output_logits output_scores penalty_alpha prefill_chunk_size prompt_lookup_num_tokens
    remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate sequence_bias speculation_type
    stop_strings suppress_tokens target_lookbehind temperature token_healing top_h top_k top_p typical_p use_cache
    use_mtp watermarking_config

    initializer_range initializer_factor init_method init_std pretraining_tp use_flash_attn use_flash_attention
    use_flash_attention_2 attn_implementation experts_implementation gradient_checkpointing use_gradient_checkpointing
    neftune_noise_alpha use_return_dict z_loss_coefficient resid_pdrop embd_pdrop attn_pdrop is_llama_config
    """.split()
)

STAMPS = re.compile(r"_.*|unsloth.*|transformers\.js.*|.*dropout(_prob)?|.*_version|mlx_.*|torchao_.*|trl_.*|peft_.*")
"""What is private to transformers, what tools sign their work with, and rates of dropout."""


def is_bookkeeping(key: str) -> bool:
    """Whether a key may have any value."""
    return key in KEYS or bool(STAMPS.fullmatch(key))
