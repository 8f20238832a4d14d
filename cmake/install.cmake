# What a wheel holds beside the Python files: the modules in hypertower/, the programs in
# hypertower/bin/. They find torch, Arrow and CUDA in the wheels installed next to them.
function(hypertower_install target folder)
  if(NOT TARGET ${target})
    return()
  endif()
  file(RELATIVE_PATH up "/${folder}" "/")
  set(rpath "")
  foreach(library torch/lib pyarrow nvidia/cu13/lib)
    list(APPEND rpath "$ORIGIN/${up}${library}")
  endforeach()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${rpath}")
  install(TARGETS ${target} RUNTIME DESTINATION ${folder} LIBRARY DESTINATION ${folder})
endfunction()

hypertower_install(_core hypertower)
hypertower_install(_trainer hypertower)
hypertower_install(hypertower-train hypertower/bin)
hypertower_install(hypertower-server hypertower/bin)
