# Where mimalloc's sources come from. In this order:
#   1. -DMOD_ALLOC_MIMALLOC_DIR=...
#   2. upstream's repository, one pinned commit (skipped with -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
#   3. the distribution's source package, by apt-get, with its signature checks on
# What 2 and 3 bring is compared with the SHA-256 known here; another content is refused. What 1 names
# may be anything, and is said to be unverified if it is not known. Nothing is ever edited.
#
# Sets  MODA_MIMALLOC_DIR      folder with include/ and src/
#       MODA_MIMALLOC_VERSION  "2.0.9"
#       MODA_MIMALLOC_ORIGIN   one phrase for the summary

include(mimalloc_ways)

# Takes what a way has found, if its content is known.
macro(mimalloc_take origin)
  if(found)
    mimalloc_version(${found} version)
    mimalloc_is_verified(${found} is_verified)
    if(is_verified)
      set(MODA_MIMALLOC_FOUND ${found} CACHE INTERNAL "mimalloc's sources, verified")
      set(MODA_MIMALLOC_FOUND_ORIGIN "${origin}" CACHE INTERNAL "where they came from")
    else()
      set(why "what came is version '${version}', whose content is not one known to this build")
      set(found "")
    endif()
  endif()
endmacro()

set(MODA_MIMALLOC_WORK ${PROJECT_BINARY_DIR}/mimalloc)
if(MOD_ALLOC_MIMALLOC_DIR)
  get_filename_component(MODA_MIMALLOC_DIR ${MOD_ALLOC_MIMALLOC_DIR} ABSOLUTE BASE_DIR ${CMAKE_BINARY_DIR})
  set(MODA_MIMALLOC_ORIGIN "${MODA_MIMALLOC_DIR}")
  mimalloc_version(${MODA_MIMALLOC_DIR} version)
  mimalloc_is_verified(${MODA_MIMALLOC_DIR} is_verified)
  if(NOT version)
    message(FATAL_ERROR "MOD_ALLOC_MIMALLOC_DIR=${MOD_ALLOC_MIMALLOC_DIR} holds no mimalloc: "
                        "include/mimalloc.h with MI_MALLOC_VERSION, and src/static.c, are looked for")
  elseif(is_verified)
    string(APPEND MODA_MIMALLOC_ORIGIN " (content verified)")
  else()
    message(WARNING "mimalloc ${version} in ${MODA_MIMALLOC_DIR} is not one of the verified versions")
    string(APPEND MODA_MIMALLOC_ORIGIN " (NOT a verified version)")
  endif()
else()
  set(is_verified FALSE)
  if(MODA_MIMALLOC_FOUND)
    mimalloc_is_verified("${MODA_MIMALLOC_FOUND}" is_verified)
  endif()
  if(NOT is_verified)
    mimalloc_by_git()
    mimalloc_take("upstream commit ${mimalloc_commit}")
    if(NOT found)
      message(STATUS "mimalloc: not from upstream (${why})")
      mimalloc_by_apt()
      mimalloc_take("the distribution's source package")
    endif()
    if(NOT found)
      message(FATAL_ERROR "mimalloc: not from the distribution either (${why}). "
                          "Give a folder with its sources: -DMOD_ALLOC_MIMALLOC_DIR=...")
    endif()
  endif()
  set(MODA_MIMALLOC_DIR ${MODA_MIMALLOC_FOUND})
  set(MODA_MIMALLOC_ORIGIN "${MODA_MIMALLOC_FOUND_ORIGIN} (content verified)")
endif()
mimalloc_version(${MODA_MIMALLOC_DIR} MODA_MIMALLOC_VERSION)
