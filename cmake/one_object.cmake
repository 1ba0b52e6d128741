# cmake -DLINKER= -DOBJCOPY= -DMAP= -DOUTPUT= -DOBJECTS= -P one_object.cmake
#
# Joins objects into one, in which only the names of a linker version script stay global, and all code lies in a section
# of its own: entry/signals.c asks whether an address is ours.
file(STRINGS ${MAP} lines)
set(names "")
set(is_global FALSE)
foreach(line IN LISTS lines)
  if(line MATCHES "global:")
    set(is_global TRUE)
  elseif(line MATCHES "local:")
    set(is_global FALSE)
  elseif(is_global AND line MATCHES "^[ \t]*([A-Za-z0-9_]+)")
    string(APPEND names "${CMAKE_MATCH_1}\n")
  endif()
endforeach()
if(names STREQUAL "")
  message(FATAL_ERROR "${MAP} names no global symbol, one a line behind 'global:'")
endif()
file(WRITE ${OUTPUT}.names "${names}")
file(WRITE ${OUTPUT}.ld "SECTIONS { moda_text : { *(.text .text.*) } }\n")
execute_process(COMMAND ${LINKER} -r -T ${OUTPUT}.ld -o ${OUTPUT} ${OBJECTS} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${OBJCOPY} --keep-global-symbols=${OUTPUT}.names ${OUTPUT} COMMAND_ERROR_IS_FATAL ANY)
